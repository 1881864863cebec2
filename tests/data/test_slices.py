import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from tutelage.data import Slice
from tutelage.errors import DataError


@pytest.fixture
def slice_() -> Slice:
    pictures = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 2, 2).clone()
    return Slice(pictures, torch.tensor([0, 1, 0, -1, 1, 0]), ("cat", "dog"))


def test_a_selection_keeps_numbers_labels_and_pictures_together(slice_):
    part = slice_.select(torch.tensor([4, 3, 1])).select(torch.tensor([0, 1]))
    assert part.index.tolist() == [4, 3]
    assert part.labels.tolist() == [1, -1]
    assert part.labelled.tolist() == [True, False]
    assert part.gather(torch.tensor([1, 0]))[:, 0, 0, 0].tolist() == [3, 4]


def test_a_selection_shares_the_pictures(slice_):
    assert slice_.select(torch.tensor([1]))._pictures is slice_._pictures


def test_unlabelling_hides_the_truth_and_leaves_the_original_as_it_was(slice_):
    part = slice_.unlabel(torch.tensor([0, 1]))
    assert part.labels.tolist() == [-1, -1, 0, -1, 1, 0]
    assert slice_.labels.tolist() == [0, 1, 0, -1, 1, 0]


def test_the_fingerprint_is_of_the_content_and_not_of_how_it_was_cut(slice_):
    positions = torch.tensor([2, 0])
    copied = Slice(slice_.gather(positions), slice_.labels[positions], slice_.classes, index=positions)
    assert slice_.select(positions).fingerprint == copied.fingerprint


@pytest.mark.parametrize("changed", ["pictures", "labels", "index", "classes", "order"])
def test_the_fingerprint_changes_with(changed, slice_):
    pictures, labels = slice_.gather(torch.arange(6)), slice_.labels.clone()
    index, classes = torch.arange(6), ("cat", "dog")
    if changed == "pictures":
        pictures[5, 0, 1, 1] += 1
    if changed == "labels":
        labels[0] = 1
    if changed == "index":
        index = index + 1
    if changed == "classes":
        classes = ("dog", "cat")
    other = Slice(pictures, labels, classes, index=index)
    if changed == "order":
        other = slice_.select(torch.tensor([1, 0, 2, 3, 4, 5]))
    assert other.fingerprint != slice_.fingerprint


def test_a_pickled_slice_has_the_same_fingerprint(slice_):
    told = slice_.fingerprint
    copy = pickle.loads(pickle.dumps(slice_))
    del copy.__dict__["fingerprint"]
    assert copy.fingerprint == told


def test_torchs_own_loader_makes_the_same_kind_of_batch(slice_):
    batch = next(iter(DataLoader(slice_, batch_size=4)))
    assert batch["inputs"].shape == (4, 1, 2, 2)
    assert batch["target"].tolist() == [0, 1, 0, -1]
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert batch["view"].tolist() == [-1] * 4
    assert batch["labelled"].tolist() == [True, True, True, False]


def test_numbering_from_the_end_works_and_there_is_an_end(slice_):
    assert int(slice_[-1]["index"]) == 5
    with pytest.raises(IndexError):
        slice_[6]


def test_a_label_outside_the_classes_is_named():
    with pytest.raises(DataError, match=r"found 2 at sample 1"):
        Slice(torch.zeros(3, 1, 2, 2), torch.tensor([0, 2, 1]), ("a", "b"))


def test_lengths_that_differ_are_named():
    with pytest.raises(DataError, match=r"3 pictures, 2 labels"):
        Slice(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1]), ("a", "b"))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_float_picture_that_is_not_finite_is_named(bad):
    pictures = torch.zeros(5, 1, 2, 2)
    pictures[3, 0, 1, 1] = bad
    with pytest.raises(DataError, match=r"1 of 5, the first is number 3"):
        Slice(pictures, torch.tensor([0, 1, 0, 1, 0]), ("a", "b"))


def test_pictures_of_another_kind_are_refused():
    with pytest.raises(DataError, match=r"int64 \[3, 2, 2\]"):
        Slice(torch.zeros(3, 2, 2, dtype=torch.int64), torch.tensor([0, 1, 0]), ("a", "b"))
