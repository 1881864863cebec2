import io
import json
import os
import pathlib
import struct
import sys

import numpy
import pyarrow
import pytest
import torch
from PIL import Image, ImageOps
from pyarrow import parquet

from tutelage.data import Loader, open_data
from tutelage.data.encoded import Encoded, decode, fit, from_pil
from tutelage.errors import DataError, MissingExtra


def picture(number: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    height, width = size
    pixels = numpy.random.default_rng(number).integers(0, 256, (height, width, 3), dtype="uint8")
    return Image.fromarray(pixels).convert(mode)


def folder(root: pathlib.Path, classes: dict[str, int], suffix: str = ".png", **options) -> pathlib.Path:
    number = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for _ in range(count):
            picture(number, **options).save(root / name / f"{number:04}{suffix}")
            number += 1
    return root


def encoded(number: int, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture(number, **options).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(path: pathlib.Path, labels, *, classes=None, image="image", label="label", contents=None) -> None:
    cells = (
        contents if contents is not None else [{"bytes": encoded(n), "path": f"{n}.png"} for n in range(len(labels))]
    )
    table = pyarrow.table({image: cells, label: labels})
    if classes:
        told = {"info": {"features": {label: {"names": classes, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def test_class_folders_are_recognised_and_cut(tmp_path):
    splits = open_data(folder(tmp_path / "photos", {"cat": 12, "dog": 8}))
    assert splits.guess == (
        "photos/: ImageFolder, 2 classes, 20 pictures (14 train + 2 selection + 4 test), 8x8 colour"
    )
    assert splits.classes == ("cat", "dog")
    whole = torch.stack([decode(path.read_bytes()) for path in sorted((tmp_path / "photos").rglob("*.png"))])
    for part in (splits.train, splits.selection, splits.test):
        assert torch.equal(part.gather(torch.arange(len(part))), whole[part.index])
        assert torch.equal(part.labels, (part.index >= 12).long())


def test_split_folders_are_kept_as_they_are(tmp_path):
    for split, count in {"train": 6, "val": 3, "test": 2}.items():
        folder(tmp_path / split, {"a": count, "b": count})
    splits = open_data(tmp_path)
    assert [len(part) for part in (splits.train, splits.selection, splits.test)] == [12, 6, 4]
    assert "ImageFolder with train, val, test" in splits.guess
    assert splits.notes == []


def test_grey_pictures_stay_grey_unless_some_have_colour(tmp_path):
    grey = folder(tmp_path / "grey", {"a": 5, "b": 5}, mode="L")
    assert open_data(grey).train.shape == (1, 8, 8)
    picture(99).save(grey / "a" / "colour.png")
    assert open_data(grey).train.shape == (3, 8, 8)


def test_various_sizes_are_brought_to_one_and_said_so(tmp_path):
    root = folder(tmp_path / "photos", {"a": 6})
    folder(root / "b", {"deeper": 6}, size=(90, 70))
    splits = open_data(root)
    assert splits.train.shape == (3, 64, 64)
    assert any("2 sizes (median shorter side 39)" in note for note in splits.notes)
    assert open_data(root, image_size=(10, 12)).train.shape == (3, 10, 12)


def test_large_various_pictures_get_the_usual_224(tmp_path):
    root = folder(tmp_path / "photos", {"a": 4}, suffix=".jpg", size=(120, 150))
    folder(tmp_path / "photos" / "b", {"x": 4}, suffix=".jpg", size=(130, 110))
    assert open_data(root).train.shape == (3, 224, 224)


def test_a_picture_is_scaled_to_cover_and_cropped_at_the_centre():
    wide = torch.zeros(1, 10, 40, dtype=torch.uint8)
    wide[:, :, 12:28] = 200
    out = fit(wide, (3, 5, 5))
    assert out.shape == (3, 5, 5)
    assert (out >= 195).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_decoding_when_asked_gives_what_memory_holds(tmp_path, suffix):
    root = folder(tmp_path / "photos", {"a": 6, "b": 6}, suffix=suffix, size=(20, 30))
    held, lazy = (open_data(root, image_size=16, in_memory=choice) for choice in (True, False))
    assert not lazy.train.in_memory
    everything = torch.arange(len(held.train))
    assert torch.equal(held.train.gather(everything), lazy.train.gather(everything))
    batches = [
        [batch["inputs"] for batch in Loader(part, batch_size=4, seed=0, augment=None, workers=workers)]
        for part, workers in ((held.train, 0), (lazy.train, 0), (lazy.train, 2))
    ]
    for other in batches[1:]:
        assert all(torch.equal(a, b) for a, b in zip(batches[0], other, strict=True))


def test_the_fingerprint_of_undecoded_files_does_not_depend_on_where_they_lie(tmp_path):
    here = open_data(folder(tmp_path / "x" / "photos", {"a": 5, "b": 5}), in_memory=False)
    there = open_data(folder(tmp_path / "y" / "photos", {"a": 5, "b": 5}), in_memory=False)
    assert here.fingerprint == there.fingerprint
    os.truncate(tmp_path / "y" / "photos" / "a" / "0000.png", 100)
    changed = open_data(tmp_path / "y" / "photos", in_memory=False, max_bad=1)
    assert changed.fingerprint != here.fingerprint


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("harm", ["truncated", "empty", "text"])
def test_an_unreadable_picture_is_named_skipped_and_in_excess_refused(tmp_path, harm, in_memory):
    root = folder(tmp_path / "photos", {"a": 10, "b": 10}, suffix=".jpg", size=(40, 40))
    for number in (3, 7):
        file = root / "a" / f"{number:04}.jpg"
        content = {"truncated": file.read_bytes()[:-200], "empty": b"", "text": b"not a picture"}[harm]
        file.write_bytes(content)
    splits = open_data(root, max_bad=2, in_memory=in_memory)
    numbers = torch.cat([part.index for part in (splits.train, splits.selection, splits.test)])
    assert sorted(numbers.tolist()) == [n for n in range(20) if n not in (3, 7)]
    assert any("2 pictures could not be read" in note and "a/0003.jpg" in note for note in splits.notes)
    with pytest.raises(DataError, match=r"at most 1 unreadable of 20 pictures, found 2: a/0003.jpg .*a/0007.jpg"):
        open_data(root, max_bad=0.05, in_memory=in_memory)


def test_a_picture_that_breaks_after_opening_is_named(tmp_path):
    root = folder(tmp_path / "photos", {"a": 5, "b": 5})
    train = open_data(root, in_memory=False).train
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"readable picture, found a/000\d.png"):
        train.gather(torch.tensor([0]))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode_are_read(mode):
    buffer = io.BytesIO()
    if mode == "I;16":
        Image.fromarray((numpy.arange(64, dtype="uint16") * 1000).reshape(8, 8)).save(buffer, "PNG")
    else:
        picture(0, mode=mode).save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    out = decode(buffer.getvalue())
    assert out.dtype == torch.uint8
    assert out.shape == (1 if mode in ("1", "L", "I;16") else 3, 8, 8)
    if mode == "I;16":
        assert torch.equal(out.flatten(), (torch.arange(64) * 1000 // 256).to(torch.uint8))


def test_parquet_is_recognised_with_its_class_names_and_splits(tmp_path):
    write_parquet(tmp_path / "pets/data/train-00000-of-00002.parquet", [0, 1] * 5, classes=["cat", "dog"])
    write_parquet(tmp_path / "pets/data/train-00001-of-00002.parquet", [1, 0] * 5, classes=["cat", "dog"])
    write_parquet(tmp_path / "pets/data/validation-00000-of-00001.parquet", [0, 1], classes=["cat", "dog"])
    write_parquet(tmp_path / "pets/data/test-00000-of-00001.parquet", [1, 1, 0], classes=["cat", "dog"])
    splits = open_data(tmp_path / "pets")
    assert splits.guess == ("pets/: parquet, 2 classes, 25 pictures (20 train + 2 selection + 3 test), 8x8 colour")
    assert splits.classes == ("cat", "dog")
    assert splits.test.labels.tolist() == [1, 1, 0]
    assert torch.equal(splits.train.gather(torch.tensor([3]))[0], decode(encoded(3)))
    assert splits.train.labels[9:12].tolist() == [1, 1, 0]


def test_parquet_with_other_column_names_and_labels_as_words(tmp_path):
    write_parquet(tmp_path / "train.parquet", ["dog", "cat"] * 10, image="img", label="fine_label")
    splits = open_data(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert torch.equal(splits.train.labels, (splits.train.index + 1) % 2)


def test_a_parquet_row_without_a_picture_is_skipped_and_one_without_a_label_unlabelled(tmp_path):
    cells = [{"bytes": encoded(n), "path": None} for n in range(20)]
    cells[4]["bytes"] = None
    write_parquet(tmp_path / "train.parquet", [0, 1] * 8 + [None] * 4, contents=cells)
    splits = open_data(tmp_path, max_bad=1)
    assert any("train.parquet row 4" in note for note in splits.notes)
    assert not splits.train.labelled[splits.train.index >= 16].any()


def test_the_word_test_inside_another_word_is_not_a_test_split(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1] * 10)
    write_parquet(tmp_path / "latest.parquet", [0, 1] * 10)
    splits = open_data(tmp_path)
    assert splits.notes[0] == "latest.parquet belongs to no known split and is left out."


def bad_folder(root: pathlib.Path, what: str) -> pathlib.Path:
    match what:
        case "nothing":
            root.mkdir()
        case "text":
            root.mkdir()
            (root / "notes.txt").write_text("hello")
        case "one class":
            folder(root, {"cat": 5})
        case "an empty class":
            folder(root, {"cat": 5, "dog": 5, "bird": 0})
        case "a class with one picture":
            folder(root, {"cat": 5, "dog": 1})
        case "pictures and masks":
            folder(root / "train", {"images": 5, "masks": 5})
        case "other classes in test":
            folder(root / "train", {"cat": 5, "dog": 5})
            folder(root / "test", {"cat": 5, "wolf": 5})
        case "only test":
            folder(root / "test", {"cat": 5, "dog": 5})
        case "a missing column":
            write_parquet(root / "train.parquet", [0, 1], label="score")
        case "a broken file":
            root.mkdir()
            (root / "train.parquet").write_bytes(b"PAR1 and no more")
        case "no training file":
            write_parquet(root / "test.parquet", [0, 1])
            write_parquet(root / "val.parquet", [0, 1])
        case "a label out of range":
            write_parquet(root / "train.parquet", [0, 1, 5], classes=["cat", "dog"])
        case "other class names":
            write_parquet(root / "train.parquet", [0, 1], classes=["cat", "dog"])
            write_parquet(root / "test.parquet", [0, 1], classes=["dog", "cat"])
        case "no rows":
            write_parquet(root / "train.parquet", [], contents=pyarrow.array([], pyarrow.binary()))
        case "nothing readable":
            write_parquet(root / "train.parquet", [0, 1] * 5, contents=[{"bytes": b"x", "path": None}] * 10)
    return root


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", r"folder that exists"),
        ("nothing", r"found an empty folder"),
        ("text", r"found 1 files .txt. Known are: .*CLASS/PICTURE.*parquet.*YOLO.*HR/"),
        ("one class", r"at least two classes in photos/, found 'cat'"),
        ("an empty class", r"found none in 'bird' \(train\)"),
        ("a class with one picture", r"found 1 of class 'dog'"),
        ("pictures and masks", r"found images, masks: .*not classes"),
        ("other classes in test", r"'wolf' only in test and 'dog' only in training"),
        ("only test", r"at least two classes in photos/, found 'test'"),
        ("a missing column", r"columns such as 'image' and 'label' in .*found image, score"),
        ("a broken file", r"whole parquet file, found .*train.parquet"),
        ("no training file", r"'train' in its name in .*found test.parquet, val.parquet"),
        ("a label out of range", r"found 5 at sample 2"),
        ("other class names", r"found \('cat', 'dog'\) in training and \('dog', 'cat'\) in test"),
        ("no rows", r"pictures in the training set of photos/, found none"),
        ("nothing readable", r"found 10: train.parquet row 0 .*max_bad"),
    ],
)
def test_one_clear_message_for(what, said, tmp_path):
    with pytest.raises(DataError, match=said):
        open_data(bad_folder(tmp_path / "photos", what))


def test_a_test_folder_without_classes_is_left_out_and_said_so(tmp_path):
    folder(tmp_path / "train", {"a": 10, "b": 10})
    (tmp_path / "test").mkdir()
    picture(0).save(tmp_path / "test" / "0.png")
    splits = open_data(tmp_path)
    assert any("test/: 1 pictures outside class folders" in note for note in splits.notes)
    assert len(splits.test) == 4


def write_mnist(root: pathlib.Path, split: str, count: int) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    pixels = numpy.arange(count * 16, dtype="uint8").reshape(count, 4, 4)
    (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 4, 4) + pixels.tobytes())
    labels = (numpy.arange(count) % 10).astype("uint8")
    (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())


def test_a_torchvision_data_set_on_disk_is_opened(tmp_path):
    write_mnist(tmp_path, "train", 60)
    write_mnist(tmp_path, "t10k", 20)
    splits = open_data("torchvision/MNIST", root=tmp_path)
    assert splits.guess.startswith("torchvision/MNIST: your own data set, 10 classes, 80 pictures")
    assert splits.classes[3] == "3 - three"
    assert splits.train.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MNIST", r"files of torchvision/MNIST under .*Nothing is downloaded"),
        ("CIFAR11", r"found 'CIFAR11'. close: CIFAR10"),
        ("FakeData", r"expected a data set with a training split, found torchvision/FakeData"),
    ],
)
def test_a_torchvision_data_set_that_cannot_be_opened(name, said, tmp_path):
    with pytest.raises(DataError, match=said):
        open_data(f"torchvision/{name}", root=tmp_path)


def test_cifar10_as_it_lies_in_the_shared_folder(shared, tmp_path):
    source = shared / "data" / "cifar10"
    few = {}
    for split in ("train", "test"):
        with parquet.ParquetFile(source / f"{split}.parquet") as file:
            few[split] = file.read_row_group(0).slice(0, 300)
        parquet.write_table(few[split], tmp_path / f"{split}.parquet")
    splits = open_data(tmp_path)
    assert splits.classes[:3] == ("airplane", "automobile", "bird")
    assert splits.train.shape == (3, 32, 32)
    assert (len(splits.train), len(splits.selection), len(splits.test)) == (270, 30, 300)
    numbers = torch.cat([splits.train.index, splits.selection.index])
    assert sorted(numbers.tolist()) == list(range(300))
    cells = few["train"].to_pylist()
    for row in (0, 100, 269):
        cell = cells[int(splits.train.index[row])]
        pixels = numpy.array(Image.open(io.BytesIO(cell["image"]["bytes"]))).transpose(2, 0, 1)
        assert (splits.train.gather(torch.tensor([row]))[0].numpy() == pixels).all()
        assert splits.train.labels[row] == cell["label"]


@pytest.mark.parametrize("package", ["PIL", "pyarrow", "torchvision", "sklearn.datasets"])
def test_a_missing_package_is_answered_with_the_install_line(package, tmp_path, monkeypatch):
    write_parquet(tmp_path / "train.parquet", [0, 1] * 10)
    monkeypatch.setitem(sys.modules, package, None)
    source = {"torchvision": "torchvision/MNIST", "sklearn.datasets": "digits"}.get(package, tmp_path)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[train\]'"):
        open_data(source)


def test_a_limit_on_a_folder_keeps_the_numbers_of_its_samples(tmp_path):
    root = folder(tmp_path / "photos", {"a": 20, "b": 20})
    whole, some = open_data(root), open_data(root, limit=8)
    assert len(some.train) == 8
    row = int((whole.train.index == some.train.index[3]).nonzero())
    assert torch.equal(some.train.gather(torch.tensor([3])), whole.train.gather(torch.tensor([row])))


@pytest.mark.parametrize(("odd", "shape"), [({"size": (9, 8)}, (3, 64, 64)), ({"mode": "L"}, (3, 8, 8))])
def test_one_odd_picture_among_many_is_noticed(odd, shape, tmp_path):
    cells = [{"bytes": encoded(n, **(odd if n == 1 else {})), "path": None} for n in range(200)]
    write_parquet(tmp_path / "train.parquet", [0, 1] * 100, contents=cells)
    splits = open_data(tmp_path)
    assert splits.train.shape == shape
    assert not any("could not be read" in note for note in splits.notes)


def test_many_colour_pictures_do_not_hide_behind_grey_ones(tmp_path):
    cells = [{"bytes": encoded(n, mode="RGB" if n % 3 == 1 else "L"), "path": None} for n in range(200)]
    write_parquet(tmp_path / "train.parquet", [0, 1] * 100, contents=cells)
    train = open_data(tmp_path).train
    assert train.shape == (3, 8, 8)
    row = int((train.index % 3 == 1).nonzero()[0])
    assert torch.equal(train.gather(torch.tensor([row]))[0], decode(encoded(int(train.index[row]))))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_are_turned_as_their_camera_says(orientation, kind):
    stored, exif, file = Image.new("RGB", (6, 4)), Image.Exif(), io.BytesIO()
    stored.putdata([(9 * n, 0, 255 - 9 * n) for n in range(24)])
    exif[0x0112] = orientation
    stored.save(file, kind, exif=exif)
    seen = ImageOps.exif_transpose(Image.open(file))
    assert torch.equal(decode(file.getvalue()), from_pil(seen))
    assert Encoded(["a"], [file.getvalue()]).header(0) == (3, seen.height, seen.width)


def test_a_damaged_note_of_the_camera_leaves_the_picture_as_it_is():
    file = io.BytesIO()
    Image.new("RGB", (6, 4)).save(file, "WEBP", exif=b"Exif\0\0garbage")
    assert decode(file.getvalue()).shape == (3, 4, 6)


def test_what_is_cut_off_is_said(tmp_path):
    root = folder(tmp_path, {"cat": 4, "dog": 4}, size=(12, 8))
    assert any("4x4 cuts up to 33%" in note for note in open_data(root, image_size=4).notes)
    assert not any("cuts" in note for note in open_data(root, image_size=(6, 4)).notes)
