"""A teacher's classes are known by their names, where its folder and the data tell them."""

import pytest
import torch

from tutelage.ledger import Batch
from tutelage.models import find, save
from tutelage.recipe.build import build_model
from tutelage.recipe.schema import ModelSpec
from tutelage.tasks import Classification, Detection

LEARNED = ["ground", "red", "blue"]
PICTURES = torch.rand(2, 3, 64, 64)


def keep(folder, source="cifar/resnet8", classes=LEARNED, **arguments):
    save(
        find(source, num_classes=3, arguments=arguments, seed=0), folder, card="", classes=classes, input_size=(64, 64)
    )
    return folder


def build(task, folder, role="big", **spec):
    return build_model(role, ModelSpec(model=str(folder), **spec), (3, 64, 64), task, {}, ())


def notes(model):
    return model.origin.get("notes", [])


def said(task, model):
    none = torch.zeros(2, dtype=torch.long)
    batch = Batch(PICTURES, none, none, none, none.bool(), {})
    with torch.no_grad():
        return task.call(model.eval(), batch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return keep(tmp_path_factory.mktemp("nets") / "net")


def test_columns_of_the_same_names_are_put_in_the_order_of_the_data(folder):
    task, model = Classification(["ground", "blue", "red"]), find(str(folder))
    matched = build(task, folder)
    assert torch.equal(said(task, matched), said(task, model)[:, [0, 2, 1]])
    assert notes(matched) == ["the data has the classes of the model in another order: they were matched by name."]


def test_the_same_names_in_the_same_order_are_no_matter_of_note(folder):
    model = build(Classification(LEARNED), folder)
    assert model.preprocess.classes is None
    assert not notes(model)


def test_other_names_are_noted_unless_they_are_numbers(folder, tmp_path):
    model = build(Classification(["ground", "red", "green"]), folder)
    assert model.preprocess.classes is None
    assert ["'green' in place of 'blue'" in note for note in notes(model)] == [True]
    assert not notes(build(Classification(3), folder))
    assert not notes(build(Classification(LEARNED), keep(tmp_path / "net", classes=["1", "2", "3"])))


def test_columns_that_were_named_weights_that_were_given_and_students_are_left_alone(folder):
    other = Classification(["ground", "blue", "red"])
    assert build(other, folder, classes=[2, 1, 0]).preprocess.classes == (2, 1, 0)
    for given in ({"weights": str(folder / "model.safetensors")}, {"role": "student"}):
        model = build(other, folder, **given)
        assert model.preprocess.classes is None
        assert not any("matched by name" in note for note in notes(model))


def test_the_boxes_of_a_detector_have_the_classes_of_the_data(tmp_path):
    pytest.importorskip("timm")
    folder = keep(tmp_path / "net", "detector/fcos-mobilenetv3_small_050", channels=64, score_thresh=0.0)
    task, model = Detection(["ground", "blue", "red"]), find(str(folder))
    matched, before = said(task, build(task, folder)), said(task, model)
    there = before[..., 4] >= 0
    assert there.any()
    assert torch.equal(matched[..., 5], before[..., 5])
    assert torch.equal(matched[..., 4][there], torch.tensor([0.0, 2, 1])[before[..., 4][there].long()])
