"""A teacher for other classes than the data has: what can be done about it is said, and no more."""

import pickle

import pytest

from tutelage.errors import ModelError, OtherClasses
from tutelage.models import find, save
from tutelage.recipe.build import build_model
from tutelage.recipe.schema import ModelSpec
from tutelage.tasks import Classification, Detection

DETECTOR = "detector/fcos-mobilenetv3_small_050"


def build(task, folder, classes=None, role="big"):
    return build_model(role, ModelSpec(model=str(folder), classes=classes), (3, 64, 64), task, {}, ())


def keep(model, folder, classes):
    save(model, folder, card="", classes=[str(number) for number in range(classes)], input_size=(64, 64))


@pytest.fixture
def classifier(tmp_path):
    keep(find("cifar/resnet8", num_classes=5), tmp_path / "net", 5)
    return tmp_path / "net"


def test_columns_can_be_named_where_there_are_more_classes(classifier):
    with pytest.raises(ModelError, match=r"for 5 classes, the data has 3.*'teachers.big.classes=\[0, 1, 2\]'"):
        build(Classification(3), classifier)
    assert build(Classification(3), classifier, [4, 0, 2]).preprocess.classes == (4, 0, 2)


def test_no_column_can_be_named_where_there_are_fewer_or_the_answer_is_boxes(classifier, tmp_path):
    with pytest.raises(OtherClasses, match=r"Take a model for these classes\.$"):
        build(Classification(7), classifier)
    pytest.importorskip("timm")
    keep(find(DETECTOR, num_classes=3, arguments={"channels": 64}), tmp_path / "boxes", 3)
    with pytest.raises(OtherClasses, match=r"Take a model for these classes\.$"):
        build(Detection(2), tmp_path / "boxes")


def test_what_is_wrong_survives_the_way_from_another_process():
    error = pickle.loads(pickle.dumps(OtherClasses("net", 5, 3)))
    assert str(error) == "net was trained for 5 classes, the data has 3. Take a model for these classes."
