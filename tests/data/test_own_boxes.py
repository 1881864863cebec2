import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.tv_tensors import BoundingBoxes

from tutelage.data import open_boxes
from tutelage.data.own_boxes import gives_boxes, own_boxes
from tutelage.errors import DataError
from tutelage.tasks import guess

PICTURE = torch.full((3, 32, 64), 200, dtype=torch.uint8)
BOX = torch.tensor([[2.0, 4, 20, 30, 1]])


class Given(Dataset):
    """Samples as they are written; `classes` where they are named."""

    def __init__(self, *samples, classes=None):
        self.samples = samples
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        return self.samples[number]


def read(*samples, classes=("cat", "dog"), image_size=None, in_memory=None):
    return own_boxes(Given(*samples, classes=classes), image_size=image_size, in_memory=in_memory)


def boxes(found, part="train"):
    return found.parts[part].targets(torch.arange(len(found.parts[part])))


def test_boxes_come_as_rows_or_as_torchvision_has_them():
    mapping = {"boxes": BOX[:, :4], "labels": torch.tensor([2]), "image_id": 7}
    found = read((PICTURE, BOX), (PICTURE, mapping), (PICTURE, [[2, 4, 20, 30, 1]]), (PICTURE, torch.zeros(0, 5)))
    assert boxes(found)[:3].tolist() == [BOX.tolist()] * 3
    assert boxes(found)[3, 0, 4] == -1
    train = found.parts["train"]
    assert train.classes == ("cat", "dog")
    assert train.labelled.all()
    assert torch.equal(train.gather(torch.tensor([0]))[0], PICTURE)
    assert any("3 dog" in note for note in found.notes)
    assert any("1 pictures hold no box" in note for note in found.notes)


def test_a_few_pictures_with_boxes_are_enough_for_the_guard():
    def guard(amount):
        splits = open_boxes(Given(*[(PICTURE, BOX)] * amount, classes=("cat", "dog")), selection=0, test=0, guard=None)
        return len(splits.guard), len(splits.train)

    assert guard(159) == (0, 159)
    assert guard(160) == (8, 152)


def test_where_nothing_is_known_a_picture_has_no_label():
    found = read((PICTURE, BOX), (PICTURE, None), (PICTURE, {"boxes": [], "labels": []}))
    assert found.parts["train"].labelled.tolist() == [True, False, True]


@pytest.mark.parametrize("in_memory", [True, False])
def test_pictures_of_any_kind_and_size_keep_their_proportions_and_boxes_follow(in_memory):
    tall, grey = np.full((64, 32, 3), 200, dtype=np.uint8), Image.new("L", (64, 32), 200)
    samples = [(picture, [[0, 0, 32, 32, 0]]) for picture in (PICTURE, tall, grey)]
    found = read(*samples, image_size=32, in_memory=in_memory)
    train = found.parts["train"]
    assert train.shape == (3, 32, 32)
    assert train.in_memory == in_memory
    assert boxes(found)[:, 0, :4].tolist() == [[0, 0, 16, 16]] * 3
    seen = train.gather(torch.arange(3))
    assert (seen[[0, 2], :, :16] == 200).all()
    assert (seen[[0, 2], :, 16:] == 0).all()
    assert (seen[1, :, :, :16] == 200).all()
    assert any("2 sizes" in note for note in found.notes)


def test_float_pictures_stay_floats():
    found = read((PICTURE / 255, BOX), (torch.ones(3, 64, 128), BOX), image_size=64)
    seen = found.parts["train"].gather(torch.arange(2))
    assert seen.dtype == torch.float32
    assert torch.allclose(seen[0, :, :32], torch.tensor(200 / 255))
    assert boxes(found)[:, 0, 2].tolist() == [20, 10]


def test_classes_are_numbers_where_they_have_no_name_and_a_background_is_none():
    assert read((PICTURE, BOX), classes=None).parts["train"].classes == ("0", "1")
    assert read((PICTURE, BOX), classes=("__background__", "cat", "dog")).parts["train"].classes == ("cat", "dog")


def test_splits_are_kept_and_of_a_loader_the_data_set_is_taken():
    sample = PICTURE, BOX
    given = {
        "train": DataLoader(Given(sample, sample)),
        "val": Given(sample),
        "test": Given((PICTURE, BOX.repeat(3, 1))),
    }
    splits = open_boxes(given)
    assert [len(part) for part in (splits.train, splits.selection, splits.test)] == [2, 1, 1]
    assert any("of the train loader" in note for note in splits.notes)
    assert splits.train.targets(torch.tensor([0])).shape == splits.test.targets(torch.tensor([0])).shape


def test_the_task_is_guessed_from_the_first_sample():
    assert guess(Given((PICTURE, BOX))) == ("detection", "Given gives pictures with boxes")
    assert guess({"train": Given((PICTURE, {"boxes": [], "labels": []}))})[0] == "detection"
    assert guess(Given((PICTURE, 1)))[0] == "classification"
    assert not gives_boxes(Given())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(1, 4), r"expected boxes \[n, 5\].*found \[1, 4\] at sample 1"),
        (torch.tensor([0.0, 0, 4, 4, 1]), r"found \[5\] at sample 1"),
        ({"boxes": torch.zeros(1, 4)}, "found the keys boxes at sample 1"),
        ({"boxes": torch.ones(2, 4), "labels": torch.tensor([1])}, "found something else at sample 1"),
        ({"boxes": torch.ones(1, 4), "labels": torch.tensor([0])}, "labels from 1, for 0 is the background.*sample 1"),
        ("a box", "found something else at sample 1"),
        ([[0, 0, 4, 4, 2]], r"sample 1 of train: expected boxes of the 2 classes 0 to 1 \(cat, dog\), found 2"),
        ([[0, 0, 4, 4, 0.5]], "found 0.5"),
        ([[0, 0, float("nan"), 4, 0]], "sample 1 of train: expected four finite numbers"),
        ([[70, 0, 90, 4, 0]], "sample 1 of train: expected boxes inside the picture of 64x32"),
        (
            {"boxes": BoundingBoxes([[0, 0, 4, 4]], format="XYWH", canvas_size=(32, 64)), "labels": [1]},
            "expected boxes as XYXY, found XYWH at sample 1",
        ),
    ],
)
def test_what_is_no_box_is_refused_with_its_sample(target, message):
    with pytest.raises(DataError, match=message):
        read((PICTURE, BOX), (PICTURE, target))


def test_pictures_that_cannot_be_used_are_refused():
    with pytest.raises(DataError, match=r"1 or 3 channels, found \[4, 8, 8\] at sample 0"):
        read((torch.zeros(4, 8, 8), BOX))
    with pytest.raises(DataError, match=r"uint8 or float \[C, H, W\], found torch\.int32"):
        read((torch.zeros(3, 8, 8, dtype=torch.int32), BOX))
    with pytest.raises(DataError, match=r"of one type, found torch\.float32 and torch\.uint8"):
        read((PICTURE, BOX), (PICTURE / 255, BOX))
    with pytest.raises(DataError, match="expected finite pictures"):
        read((PICTURE * float("nan"), BOX))


def test_a_set_without_a_box_or_a_sample_is_refused():
    with pytest.raises(DataError, match="expected boxes in your data set, found none"):
        read((PICTURE, torch.zeros(0, 5)))
    with pytest.raises(DataError, match="expected samples in the train data set"):
        read()


def test_random_transforms_are_noticed_where_samples_are_asked_for_again():
    class Moves(Given):
        def __getitem__(self, number):
            return PICTURE, BOX + torch.rand(1) * torch.tensor([1.0, 1, 1, 1, 0])

    with pytest.raises(DataError, match="the same boxes whenever a sample is asked for"):
        own_boxes(Moves(0, 0), image_size=None, in_memory=False)
    assert len(own_boxes(Moves(0, 0), image_size=None, in_memory=True).parts["train"]) == 2


def test_classes_that_nobody_names_are_those_of_all_splits():
    splits = {"train": Given((PICTURE, None)), "validation": Given((PICTURE, BOX))}
    found = own_boxes(splits, image_size=None, in_memory=None)
    assert found.parts["train"].classes == ("0", "1")
