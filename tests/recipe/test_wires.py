"""From paths as written to paths with taps and connectors, and the table that is printed."""

import pytest
import torch
import yaml
from torch import nn

from tutelage.errors import RecipeError
from tutelage.recipe import schema
from tutelage.recipe.build import build_path
from tutelage.recipe.wires import resolve, standing, unheard
from tutelage.survey import survey


class Net(nn.Module):
    def __init__(self, width, stride=2):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, width, 3, stride, 1), nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.fc = nn.Linear(2 * width, 3)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean(dim=(2, 3)))


SITES = {
    name: survey(net, lambda net=net: net(torch.zeros(2, 3, 16, 16)))
    for name, net in {"student": Net(4), "big": Net(8, 1), "even": Net(4)}.items()
}
TAPS = ["one", "two"]


def resolved(**path):
    paths = {"deep": {"loss": "hierarchical_context", "student": TAPS, "teacher": TAPS, **path}}
    recipe = schema.parse({"data": "digits", "student": "cifar/resnet8", "paths": paths})
    recipe, table = resolve(recipe, SITES)
    return recipe.paths["deep"], table, recipe


def used(spec):
    return {teacher: [part.use for part in parts] for teacher, parts in (spec.connector or {}).items()}


def test_lists_of_taps_are_read_and_written_back():
    for teacher in (TAPS, {"big": TAPS, "even": "one"}):
        paths = {"deep": {"loss": "kdsvd", "student": TAPS, "teacher": teacher}}
        recipe = schema.parse({"data": "digits", "student": "cifar/resnet8", "paths": paths})
        assert (recipe.paths["deep"].student, recipe.paths["deep"].teacher) == (TAPS, teacher)
        assert schema.parse(yaml.safe_load(recipe.to_yaml())) == recipe


def test_attention_asks_of_teachers_no_more_than_the_size_of_their_channels():
    recipe = schema.parse({"data": "digits", "student": "cifar/resnet8", "paths": ["attention"]})
    recipe, table = resolve(recipe, SITES)
    assert recipe.paths["attention_one"].teacher == {"big": "two:rms", "even": "one:rms"}
    assert [row["teacher_shape"] for row in table if row["path"] == "attention_one"] == [[1, 8, 8], [1, 8, 8]]
    assert used(recipe.paths["attention_one"]) == {}


def test_where_no_stages_pair_the_usual_path_is_that_of_vectors():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Linear(8, 3))
    sites = {"student": SITES["student"], "flat": survey(flat, lambda: flat(torch.zeros(2, 3, 16, 16)))}
    assert standing(["logits", "attention"], sites) == ["logits", "pooled"]
    assert standing(["logits", "attention"], SITES) == ["logits", "attention"]


def test_a_value_that_is_no_tap_is_refused():
    with pytest.raises(RecipeError, match=r"paths\.deep\.student.*found 3"):
        resolved(student=3)


def test_connectors_are_found_for_all_taps_together_and_left_out_where_none_is_needed():
    assert used(resolved()[0]) == {"big": ["resize", "project"]}


@pytest.mark.parametrize(
    ("loss", "needed"),
    [
        ("fsp", ["project"]),
        ("nst", []),
        ("mgd", ["resize"]),
        ("factor", ["project"]),
        ("vid", []),
        ("semckd", []),
        ("attention", ["resize"]),
    ],
)
def test_a_loss_gets_no_connector_it_can_do_without(loss, needed):
    single = {"student": "two", "teacher": "two"} if loss not in ("fsp", "semckd") else {}
    assert used(resolved(loss=loss, **single)[0]) == ({"big": needed} if needed else {})


def test_the_table_has_a_row_for_each_pair_of_taps():
    _, table, _ = resolved(teachers=["big"])
    assert [(row["student"], row["student_shape"], row["teacher"], row["teacher_shape"]) for row in table] == [
        ("one", [4, 8, 8], "one", [8, 16, 16]),
        ("two", [8, 4, 4], "two", [16, 8, 8]),
    ]
    assert {row["connector"] for row in table} == {"resize > project"}


def test_where_one_side_has_more_taps_the_table_says_so():
    _, table, _ = resolved(loss="semckd", teacher=["one", "two", "fc:input"], teachers=["even"])
    assert [(row["student"], row["teacher"]) for row in table] == [("one", "one"), ("two", "two"), ("-", "fc:input")]
    assert table[-1]["student_shape"] is None


def test_a_path_is_built_with_its_lists():
    spec, _, _ = resolved(loss="kdsvd", teacher={"big": TAPS}, connector=None)
    path = build_path("deep", spec, ())
    assert (path.student_tap, path.teacher_tap("big")) == (("one", "two"), ("one", "two"))


def test_a_teacher_is_unheard_where_no_path_names_it():
    assert unheard(resolved()[2].paths, ["big", "even"]) == []
    assert unheard(resolved(teachers=["even"])[2].paths, ["big", "even"]) == ["big"]
    assert unheard(resolved(teacher={"big": TAPS})[2].paths, ["big", "even"]) == ["even"]


def test_taps_that_need_connectors_in_different_orders_are_refused():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 6)

        def forward(self, x):
            return self.mix(self.embed(x).flatten(2).transpose(1, 2))

    net = Tokens()
    sites = {**SITES, "tokens": survey(net, lambda: net(torch.zeros(2, 3, 16, 16)))}
    paths = {
        "deep": {"loss": "hierarchical_context", "student": TAPS, "teacher": ["embed", "mix"], "teachers": ["tokens"]}
    }
    with pytest.raises(RecipeError, match=r"'deep'.*different connectors.*'tokens'.*tokens > project"):
        resolve(schema.parse({"data": "digits", "student": "cifar/resnet8", "paths": paths}), sites)
