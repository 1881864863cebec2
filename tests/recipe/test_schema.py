"""What may stand in a recipe, and what is said where it is wrong."""

import pytest
import yaml

from tutelage.errors import RecipeError, UnknownName
from tutelage.recipe import schema

SMALL = {"data": "digits", "student": "cifar/resnet8"}


def test_text_written_from_a_recipe_reads_back_as_the_same_recipe():
    recipe = schema.parse(
        SMALL
        | {
            "teachers": {"big": "cifar/resnet20@big.safetensors"},
            "paths": {"logits": {"loss": {"use": "kl", "temperature": 2}}},
            "weighting": {"scale": {"use": "fixed", "base": 0.1, "logits": 0.9}, "gates": ["trust"]},
            "train": {"epochs": 3, "lr": 0.05},
        }
    )
    assert schema.parse(yaml.safe_load(recipe.to_yaml())) == recipe
    assert recipe.teachers["big"].weights == "big.safetensors"


@pytest.mark.parametrize(
    "said",
    [
        {"paths": {"deep": {"loss": "mse", "student": "a", "teacher": "b", "connector": None}}},
        {"paths": []},
        {"task": {"use": "super_resolution", "tile": None}},
        {"train": {"lr": None, "clip": None}},
        {"data": {"use": "photos", "class_names": [], "frames": None}},
        {"weighting": {"gates": [{"use": "route", "by": "camera", "to": {7: "birds", 8: None}}]}},
        {"paths": {"deep": {"loss": {"use": "mse", "options": {"levels": [None, {}]}}}}},
    ],
    ids=lambda said: next(iter(said)),
)
def test_what_was_said_to_be_nothing_is_written_down(said):
    recipe = schema.parse(SMALL | said)
    again = yaml.safe_load(recipe.to_yaml())
    assert schema.parse(schema.beside(again, {"train": {"lr": 1.0, "clip": 2.0}, "paths": ["l1"]})) == recipe


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trian": {}}, "there is no key 'trian'; close: train"),
        ({"train": {"epoch": 3}}, "train: there is no key 'epoch'; close: epochs"),
        ({"paths": {"deep": {"los": "kl"}}}, "there is no key 'los'; close: loss"),
        ({"student": {"model": "cifar/resnet8", "wieghts": "x"}}, "there is no key 'wieghts'; close: weights"),
    ],
)
def test_an_unknown_key_is_refused_with_the_closest_ones(wrong, message):
    with pytest.raises(UnknownName, match=message):
        schema.parse(SMALL | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train": {"epochs": 0}}, "train.epochs: expected 1 to 1e"),
        ({"train": {"schedule": "foo"}}, "train.schedule: input should be 'one-cycle'.*found 'foo'"),
        ({"seeds": "many"}, "seeds:.*found 'many'"),
        ({"data": None}, "data"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_found(wrong, message):
    with pytest.raises(RecipeError, match=message):
        schema.parse(SMALL | wrong)


def test_a_missing_key_is_named():
    with pytest.raises(RecipeError, match="'student' is missing"):
        schema.parse({"data": "digits"})


def test_an_assignment_reaches_into_what_was_written_short():
    raw = {"data": "digits", "student": "cifar/resnet8"}
    for assignment in ("data.batch_size=32", "student.weights=w.pt", "train.lr=0.5", "weighting.scale.use=fixed"):
        schema.assign(raw, assignment)
    recipe = schema.parse(raw)
    assert (recipe.data.use, recipe.data.batch_size) == ("digits", 32)
    assert (recipe.student.model, recipe.student.weights) == ("cifar/resnet8", "w.pt")
    assert recipe.train.lr == 0.5


def test_an_assignment_keeps_the_weights_of_a_model_that_was_written_short():
    raw = {**SMALL, "teachers": {"big": "cifar/resnet20@big.safetensors"}}
    schema.assign(raw, "teachers.big.classes=[1, 0]")
    assert schema.parse(raw).teachers["big"].weights == "big.safetensors"


def test_an_assignment_below_a_list_is_refused_where_it_would_lose_the_rest():
    raw = {**SMALL, "paths": ["logits", "attention"]}
    with pytest.raises(RecipeError, match=r"found the list \[logits, attention\].*--set 'paths=\[kl, attention\]'"):
        schema.assign(raw, "paths.logits.loss=kl")
    assert raw["paths"] == ["logits", "attention"]
    raw["paths"] = ["logits"]
    schema.assign(raw, "paths.logits.loss=dist")
    assert schema.parse(raw).paths["logits"].loss.use == "dist"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("teachers.teachr.classes=[0, 1]", "'teachers.teachr.model' is missing; close: teacher"),
        ("paths.logts.connector=null", "'paths.logts.loss' is missing; close: logits"),
    ],
)
def test_a_misspelt_teacher_or_path_is_told_the_closest(assignment, message):
    raw = {**SMALL, "teachers": {"teacher": "cifar/resnet20"}, "paths": {"logits": {"loss": "kl"}}}
    schema.assign(raw, assignment)
    with pytest.raises(UnknownName, match=message):
        schema.parse(raw)


@pytest.mark.parametrize(
    ("text", "number"), [("1e-3", 0.001), ("1e38", 1e38), ("1.5E+2", 150.0), (".5e1", 5.0), ("-2.e0", -2.0)]
)
def test_numbers_with_an_exponent_are_numbers_everywhere(tmp_path, text, number):
    (tmp_path / "recipe.yaml").write_text(f"weighting: {{use: fixed, logits: {text}}}\ntask: {{name: '{text}'}}\n")
    raw = schema.read(tmp_path / "recipe.yaml")
    assert raw["weighting"]["logits"] == number
    assert raw["task"]["name"] == text
    schema.assign(raw, f"train.lr={text}")
    assert raw["train"]["lr"] == number


def test_text_that_looks_like_a_number_with_an_exponent_stays_text(tmp_path):
    given = {"data": "digits", "student": "cifar/resnet8", "teachers": {"big": {"model": "m", "weights": "123e45"}}}
    (tmp_path / "recipe.yaml").write_text(schema.parse(given).to_yaml())
    assert schema.read(tmp_path / "recipe.yaml")["teachers"]["big"]["weights"] == "123e45"


def test_a_recipe_that_hides_code_is_read_as_data_or_refused(tmp_path):
    trap = tmp_path / "trap.yaml"
    trap.write_text("data: !!python/object/apply:os.system ['touch ran']\nstudent: x\n")
    with pytest.raises(RecipeError, match="expected YAML"):
        schema.read(trap)
