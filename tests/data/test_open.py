import pathlib

import numpy
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from tutelage.data import Loader, names, open_data
from tutelage.errors import DataError, InputError


class Pairs(Dataset):
    """A data set of given pictures and labels."""

    def __init__(self, pictures, labels, **attributes):
        self.pictures, self.labels_ = pictures, labels
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, number):
        return self.pictures[number], self.labels_[number]


def pairs(count: int = 20, **attributes) -> Pairs:
    generator = torch.Generator().manual_seed(count)
    pictures = torch.randint(0, 256, (count, 3, 6, 6), dtype=torch.uint8, generator=generator)
    return Pairs(list(pictures), [n % 2 for n in range(count)], **attributes)


def test_digits_are_cut_into_three_slices_and_the_guess_says_so():
    splits = open_data("digits")
    assert splits.guess == (
        "digits: scikit-learn's handwritten digits, 10 classes, 1,797 pictures "
        "(1,294 train + 144 selection + 359 test), 8x8 grey"
    )
    assert len(splits.guard) == 0
    assert any("no test split" in note for note in splits.notes)
    pictures = splits.train.gather(torch.arange(len(splits.train)))
    assert pictures.dtype == torch.uint8
    assert (pictures.min(), pictures.max()) == (0, 255)
    assert splits.classes == tuple("0123456789")


def test_the_same_seed_cuts_the_same_slices_and_another_seed_others():
    first, again, other = (open_data("digits", seed=seed).fingerprint for seed in (0, 0, 1))
    assert first == again != other


def test_a_limit_keeps_the_classes_in_proportion_and_the_other_slices_whole():
    whole, some = open_data("digits"), open_data("digits", limit=100)
    assert some.train.labels.bincount().tolist() == [10] * 10
    assert set(some.train.index.tolist()) < set(whole.train.index.tolist())
    assert some.test.fingerprint == whole.test.fingerprint
    assert len(open_data("digits", limit=0.5).train) == 647


def test_labels_are_hidden_in_training_only():
    splits = open_data("digits", labels=40)
    assert len(splits.train) == 1294
    assert splits.train.labels[splits.train.labelled].bincount().tolist() == [4] * 10
    assert splits.selection.labelled.all()
    assert splits.test.labelled.all()
    assert not open_data("digits", labels=0).train.labelled.any()


def test_a_guard_is_cut_when_asked_for():
    splits = open_data("digits", guard=0.1)
    assert len(splits.guard) == 129
    assert not set(splits.guard.index.tolist()) & set(splits.train.index.tolist())


def test_a_guard_is_cut_from_the_labelled_samples_that_are_kept():
    splits = open_data("digits", guard=None, limit=1200, labels=900)
    assert (len(splits.train), len(splits.guard)) == (1155, 45)
    assert splits.guard.labelled.all()
    assert int(splits.train.labelled.sum()) == 855


def test_too_few_labels_make_no_guard():
    assert len(open_data("digits", guard=None, labels=600).guard) == 0
    assert len(open_data("digits", guard=None, labels=0).guard) == 0


@pytest.mark.parametrize("kind", ["uint8", "float", "pillow", "numpy", "label tensor"])
def test_your_own_samples_may_be(kind):
    data = pairs()
    raw = torch.stack(data.pictures)
    if kind == "float":
        data.pictures = [picture / 255 for picture in data.pictures]
    if kind == "pillow":
        data.pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in data.pictures]
    if kind == "numpy":
        data.pictures = [picture.permute(1, 2, 0).numpy() for picture in data.pictures]
    if kind == "label tensor":
        data.labels_ = [torch.tensor([label]) for label in data.labels_]
    train = open_data(data).train
    expected = raw[train.index]
    assert torch.equal(train.gather(torch.arange(len(train))), expected / 255 if kind == "float" else expected)
    assert torch.equal(train.labels, train.index % 2)


def test_your_own_splits_are_kept():
    splits = open_data({"train": pairs(20), "validation": pairs(6), "test": pairs(8)})
    assert [len(part) for part in (splits.train, splits.selection, splits.guard, splits.test)] == [
        20,
        6,
        0,
        8,
    ]
    assert splits.notes == []
    assert splits.test.index.tolist() == list(range(8))


def test_pictures_that_are_not_held_are_asked_for_each_time():
    held, lazy = open_data(pairs()), open_data(pairs(), in_memory=False)
    assert (held.train.in_memory, lazy.train.in_memory) == (True, False)
    assert torch.equal(held.train.gather(torch.tensor([3, 0])), lazy.train.gather(torch.tensor([3, 0])))
    assert torch.equal(held.train.labels, lazy.train.labels)
    assert lazy.fingerprint == open_data(pairs(), in_memory=False).fingerprint


def test_known_targets_spare_reading_all_pictures_of_a_large_set():
    class Counted(Pairs):
        asked = 0

        def __getitem__(self, number):
            Counted.asked += 1
            return super().__getitem__(number)

    data = pairs(300)
    open_data(Counted(data.pictures, data.labels_, targets=data.labels_), in_memory=False)
    known = Counted.asked
    open_data(Counted(data.pictures, data.labels_), in_memory=False)
    assert Counted.asked - known == known + len(data) - 64


@pytest.mark.parametrize("count", [20, 8 * 64])
def test_targets_that_are_not_what_samples_say_are_not_taken_for_labels(count):
    data = pairs(count, targets=[n % 8 for n in range(count)])
    data.labels_ = [n % 8 // 4 for n in range(count)]
    held, asked = open_data(data), open_data(data, in_memory=False)
    assert asked.classes == held.classes == ("0", "1")
    assert torch.equal(asked.train.labels, held.train.labels)


def test_class_names_are_taken_from_your_data_set():
    assert open_data(pairs(classes=["cat", "dog"])).classes == ("cat", "dog")
    assert open_data(pairs()).classes == ("0", "1")


@pytest.mark.parametrize("names", [numpy.array(["cat", "dog"]), ("cat", "dog"), {"cat": 0, "dog": 1}.keys()])
def test_class_names_may_stand_in_anything_that_has_an_order(names):
    assert open_data(pairs(classes=names)).classes == ("cat", "dog")


@pytest.mark.parametrize(("names", "found"), [(numpy.arange(2), "01"), (torch.arange(2), "01")])
def test_class_names_may_be_numbers(names, found):
    assert open_data(pairs(classes=names)).classes == tuple(found)


@pytest.mark.parametrize("classes", [2, "cat", {"cat", "dog"}, torch.tensor(2), lambda: ["cat", "dog"]])
def test_what_cannot_be_class_names_is_refused(classes):
    with pytest.raises(DataError, match=r"names in the attribute classes of the train data set.*found .*leave it out"):
        open_data(pairs(classes=classes))


def test_classes_that_nobody_names_are_those_of_all_splits():
    train, labelled = pairs(40), pairs(9)
    train.labels_, labelled.labels_ = [-1] * 40, [0, 1, 2] * 3
    splits = open_data({"train": train, "validation": labelled, "test": labelled})
    assert splits.classes == ("0", "1", "2")
    assert not splits.train.labelled.any()


def test_without_a_label_the_names_of_the_classes_are_asked_for():
    data = pairs(40)
    data.labels_ = [-1] * 40
    with pytest.raises(DataError, match=r"no sample has a label.*the attribute `classes`"):
        open_data(data)
    data.classes = ["cat", "dog"]
    assert open_data(data).classes == ("cat", "dog")


def test_unlabelled_samples_stay_unlabelled():
    data = pairs(40)
    data.labels_[10:20] = [-1] * 10
    splits = open_data(data)
    assert torch.equal(splits.train.labelled, (splits.train.index < 10) | (splits.train.index >= 20))


def test_a_test_split_without_labels_is_left_out_and_said_so():
    unlabelled = pairs(8)
    unlabelled.labels_ = [-1] * 8
    splits = open_data({"train": pairs(40), "test": unlabelled})
    assert splits.test.labelled.all()
    assert len(splits.test) == 8
    assert splits.notes[0] == "the test split has no labels and is left out."


def test_pictures_are_brought_to_the_size_asked_for():
    assert open_data(pairs(), image_size=4).train.shape == (3, 4, 4)
    assert open_data(pairs(), image_size=(4, 8)).train.shape == (3, 4, 8)


def test_float_pictures_out_of_range_are_noted():
    data = pairs()
    data.pictures = [picture / 50 - 2 for picture in data.pictures]
    assert any("floats from -2" in note for note in open_data(data).notes)


def test_names_lists_the_sources():
    assert "digits" in names()
    assert "torchvision/NAME" in names()
    assert {"FOLDER (masks)", "FOLDER (boxes)", "FOLDER (pictures)"} <= set(names())


def bad_pairs(what: str):
    data = pairs()
    match what:
        case "one class":
            data.labels_ = [0] * 20
        case "a class with one sample":
            data.labels_ = [0] * 19 + [1]
        case "a label out of range":
            data.classes = ["cat", "dog"]
            data.labels_[3] = 7
        case "NaN":
            data.pictures = [picture / 255 for picture in data.pictures]
            data.pictures[4][0, 0, 0] = torch.nan
        case "pictures of two shapes":
            data.pictures[5] = torch.zeros(3, 7, 6, dtype=torch.uint8)
        case "no pictures":
            return pairs(0)
        case "a label that is no number":
            data.labels_[2] = "cat"
        case "a sample that is no pair":
            return [torch.zeros(1)] * 4
        case "integers":
            data.pictures = [picture.long() for picture in data.pictures]
        case "a misspelt split":
            return {"trian": data}
        case "one split twice":
            return {"train": data, "val": pairs(8), "validation": pairs(6)}
        case "no training set":
            return {"test": data}
        case "a test set of another shape":
            other = pairs(8)
            other.pictures = [torch.zeros(3, 7, 7, dtype=torch.uint8)] * 8
            return {"train": data, "test": other}
        case "other classes in test":
            data.classes = ["cat", "dog"]
            return {"train": data, "test": pairs(8, classes=["dog", "cat"])}
    return data


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("one class", r"at least two classes in Pairs, found '0'"),
        ("a class with one sample", r"found 1 of class '1'"),
        ("a label out of range", r"found 7 at sample 3"),
        ("NaN", r"1 of 20, the first is number 4"),
        ("pictures of two shapes", r"\(3, 6, 6\) at sample 0 and \(3, 7, 6\) at sample 5.*image_size"),
        ("no pictures", r"expected samples in the train data set, found none"),
        ("a label that is no number", r"found 'cat' at sample 2"),
        ("a sample that is no pair", r"samples \(picture, label\), found Tensor at sample 0"),
        ("integers", r"torch.int64 \[3, 6, 6\]"),
        ("a misspelt split", r"found 'trian'. close: train"),
        ("one split twice", r"one data set for each split, found 'val' and 'validation'.*Leave one out"),
        ("no training set", r"expected a 'train' data set, found 'test'"),
        ("a test set of another shape", r"\(3, 6, 6\) in train and \(3, 7, 7\) in test"),
        ("other classes in test", r"cat, dog in train and dog, cat in test"),
    ],
)
def test_one_clear_message_for(what, said):
    with pytest.raises(DataError, match=said):
        open_data(bad_pairs(what))


def test_not_finite_pictures_are_named_when_they_are_not_held_either():
    data = bad_pairs("NaN")
    with pytest.raises(DataError, match=r"NaN or infinity"):
        open_data(data, in_memory=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"selection": 1.0}, r"selection to be a share .* found 1.0"),
        ({"limit": 0}, r"limit as a number of samples, or as a share in 0.0 to 1.0; found 0"),
        ({"labels": 1.5}, r"labels as .* found 1.5"),
        ({"limit": 5}, r"10 for limit; found 5"),
    ],
)
def test_an_impossible_cut_is_refused(options, said):
    with pytest.raises(DataError, match=said):
        open_data("digits", **options)


def test_a_source_that_is_nowhere_is_refused_with_the_list_of_sources():
    with pytest.raises(DataError, match=r"folder that exists.*digits.*torchvision/NAME.*found 'digts'"):
        open_data("digts")


def test_nothing_is_imported_without_leave(tmp_path: pathlib.Path, monkeypatch):
    (tmp_path / "mydata_for_test.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n"
        "def build():\n    return TensorDataset(torch.rand(20, 1, 4, 4), torch.arange(20) % 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"--allow-import mydata_for_test"):
        open_data("mydata_for_test:build")
    splits = open_data("mydata_for_test:build", allow_import=["mydata_for_test"])
    assert splits.guess.startswith("mydata_for_test:build: your own data set, 2 classes, 20 pictures")
    with pytest.raises(InputError, match=r"mydata_for_test has no 'nothing'"):
        open_data("mydata_for_test:nothing", allow_import=["mydata_for_test"])


def test_an_opened_data_set_feeds_a_loader():
    train = open_data(TensorDataset(torch.rand(40, 1, 4, 4), torch.arange(40) % 4)).train
    batch = Loader(train, batch_size=8, seed=0, augment=None).batch(0, 0)
    assert batch["inputs"].dtype == torch.float32
    assert batch["inputs"].shape == (8, 1, 4, 4)


def test_numpy_grey_pictures_get_their_channel():
    data = Pairs([numpy.full((5, 4), n, dtype="uint8") for n in range(12)], [n % 2 for n in range(12)])
    assert open_data(data).train.shape == (1, 5, 4)
