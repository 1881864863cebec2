"""What the names of methods mean, and what they may not mean."""

import pytest

from tutelage.bench import read_method, without
from tutelage.errors import RecipeError, UnknownName
from tutelage.recipe import catalogue, schema

TWO = {"data": "digits", "student": "cifar/resnet8", "teachers": {"big": "cifar/resnet14", "wide": "cifar/wrn_16_2"}}
WIRED = {
    "logits": {"loss": "kl"},
    "layer3": {"loss": "attention", "student": "layer3", "teacher": {"big": "layer3"}},
    "hint": {"loss": "mse", "student": "layer3", "teacher": "layer3", "teachers": ["big", "wide"]},
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("auto", {"weighting": {"use": "auto"}}),
        ("kd", {"paths": ["kl"]}),
        ("dist", {"paths": ["dist"]}),
        ("CRD", {"paths": ["CRD"]}),
        ("features", {"paths": ["features"]}),
        ("equal", {"weighting": {"use": "auto", "share": "equal", "guard": False}}),
        ("kl+attention/adaptive", {"paths": ["kl", "attention"], "weighting": {"use": "adaptive"}}),
        ("adaptive+trust", {"weighting": {"scale": {"use": "adaptive"}, "gates": [{"use": "trust"}]}}),
        (
            "trust",
            {"weighting": {"scale": {"use": "auto", "share": "whole", "guard": False}, "gates": [{"use": "trust"}]}},
        ),
        (
            "warmup",
            {"weighting": {"scale": {"use": "auto", "share": "trust", "guard": False}, "gates": [{"use": "warmup"}]}},
        ),
    ],
)
def test_a_name_stands_for_paths_and_a_weighting(name, changes):
    assert read_method(name, TWO).changes == changes


@pytest.mark.parametrize("name", [*catalogue.names("losses"), *catalogue.names("weighting")])
def test_every_loss_and_every_weighting_is_a_method(name):
    schema.parse(read_method(name, TWO).recipe(TWO))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("kll", UnknownName, "close: kl"),
        ("kl+attenton", UnknownName, "close: attention"),
        ("kl/adpative", UnknownName, "close: adaptive"),
        ("auto@bgi", UnknownName, "close: big"),
        ("kl/", UnknownName, "there is no weighting ''"),
        ("equal/trust", RecipeError, "found the weighting 'equal'"),
        ("kl+adaptive", RecipeError, "found the weighting 'adaptive'"),
        ("kl/adaptive+auto", RecipeError, "expected gates.*'auto'"),
    ],
)
def test_a_name_that_is_not_understood_is_refused_with_close_ones(name, error, message):
    with pytest.raises(error, match=message):
        read_method(name, TWO)


def test_a_method_hears_the_teachers_it_names_alone():
    recipe = read_method("auto@wide", TWO | {"paths": WIRED}).recipe(TWO | {"paths": WIRED})
    assert list(recipe["teachers"]) == ["wide"]
    assert list(recipe["paths"]) == ["logits", "hint"]  # layer3 read only the other one
    assert recipe["paths"]["hint"]["teachers"] == ["wide"]


def test_controls_hear_nobody():
    plain, smooth = (read_method(name, TWO).recipe(TWO | {"paths": WIRED}) for name in ("plain", "label_smoothing"))
    assert (plain["teachers"], "paths" in plain) == ({}, False)
    assert schema.parse(smooth).task.as_dict() == {"use": "auto", "label_smoothing": 0.1}


def test_who_hears_nobody_takes_no_scheme_but_its_own():
    own = {"smooth": {"teachers": {}}, "seeing": {"teachers": {}, "scheme.epochs": 3}}
    raw = TWO | {"scheme": {"use": "privileged", "tap": "head"}, "methods": own}
    schemes = {name: read_method(name, raw).recipe(raw).get("scheme") for name in ("plain", "smooth", "seeing", "auto")}
    told = {"use": "privileged", "tap": "head"}
    assert schemes == {"plain": None, "smooth": None, "seeing": told | {"epochs": 3}, "auto": told}


def test_a_recipe_names_methods_of_its_own():
    own = {"hot": {"paths": {"logits": {"loss": {"use": "kl", "temperature": 8}}}, "weighting.use": "fixed"}}
    recipe = schema.parse(read_method("hot", TWO | {"methods": own}).recipe(TWO | {"methods": own}))
    assert recipe.paths["logits"].loss.as_dict() == {"use": "kl", "temperature": 8}
    assert recipe.weighting.use == "fixed"
    assert recipe.methods == {}


@pytest.mark.parametrize("key", ["train.epochs", "data.batch_size", "student", "seeds"])
def test_what_would_make_the_budget_unequal_is_refused(key):
    raw = TWO | {"methods": {"longer": {key: 3}}}
    with pytest.raises(RecipeError, match="budget would not be equal"):
        read_method("longer", raw)


def test_each_teacher_and_each_path_is_left_out_once():
    raw = TWO | {"paths": WIRED}
    parts = {
        f"{kind} {name}": method.recipe(raw)
        for kind, name, method in without(read_method("auto", raw), schema.parse(raw))
    }
    assert list(parts) == ["teacher big", "teacher wide", "path logits", "path layer3", "path hint"]
    assert list(parts["teacher wide"]["teachers"]) == ["big"]
    assert list(parts["path layer3"]["paths"]) == ["logits", "hint"]
    alone = TWO | {"teachers": {"big": "cifar/resnet14"}, "paths": {"logits": WIRED["logits"]}}
    assert list(without(read_method("auto", alone), schema.parse(alone))) == []
