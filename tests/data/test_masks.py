import random

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data import AugmentMasks, Loader, open_masks
from tutelage.data.augment_masks import IGNORED
from tutelage.data.frames import blocks_of
from tutelage.errors import DataError
from tutelage.tasks import guess

NAMES = ["wall", "cat", "dog"]


def picture(file, size=(12, 16), seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(file)


def mask(file, values=(0, 1, 2), size=(12, 16), seed=0, mode="L"):
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(seed).choice(np.array(values, dtype=np.uint8), size)
    image = Image.fromarray(drawn)
    if mode == "P":
        image = image.convert("P")
        image.putdata(drawn.flatten().tolist())
    image.save(file)


def world(root, counts=None, *, name="{:02}", **kinds):
    for split, count in (counts or {"train": 6, "val": 3, "test": 4}).items():
        for n in range(count):
            picture(root / split / "images" / f"{name.format(n)}.png", seed=n)
            mask(root / split / "masks" / f"{name.format(n)}.png", seed=n, **kinds)
    return root


def test_splits_of_pictures_and_masks_are_recognised_and_the_guess_is_told(tmp_path):
    splits = open_masks(world(tmp_path / "pets"), class_names=NAMES)
    assert splits.guess == (
        "pets/: pictures and masks with train, val, test, 3 classes, 13 pictures (6 train + 3 selection + 4 test), "
        "12x16 colour"
    )
    assert guess(tmp_path / "pets") == ("segmentation", "pets/ holds pictures and masks with train, val, test")
    raw = splits.train.batch(torch.tensor([0, 1]))
    assert (raw["inputs"].dtype, raw["target"].dtype) == (torch.uint8, torch.uint8)
    written = np.array(Image.open(tmp_path / "pets" / "train" / "masks" / "01.png"))
    assert torch.equal(raw["target"][1], torch.from_numpy(written))


@pytest.mark.parametrize("layout", ["exchanged", "whole", "voc"])
def test_other_layouts_hold_the_same_pairs(tmp_path, layout):
    whole = world(tmp_path / "whole", {"train": 6})
    root = tmp_path / layout
    places = {"exchanged": ("images/train", "masks/train"), "whole": ("images", "masks")}
    for number in range(6):
        one, two = places.get(layout, ("JPEGImages", "SegmentationClass"))
        picture(root / one / f"{number:02}.png", seed=number)
        mask(root / two / f"{number:02}.png", seed=number, mode="P" if layout == "voc" else "L")
    if layout == "voc":
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("".join(f"{n:02}\n" for n in range(6)))
    found, same = (open_masks(at, class_names=NAMES, selection=0.2, test=0.2).train for at in (root, whole))
    assert torch.equal(found.targets(torch.arange(3)), same.targets(torch.arange(3)))
    assert guess(root)[0] == "segmentation"


def test_names_in_lists_may_hold_spaces(tmp_path):
    lists, names = tmp_path / "ImageSets" / "Segmentation", [f"n {number} é" for number in range(6)]
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\r\n".join([*names, "", " "]), encoding="utf-8")
    for number, name in enumerate(names):
        picture(tmp_path / "JPEGImages" / f"{name}.png", seed=number)
        mask(tmp_path / "SegmentationClass" / f"{name}.png", seed=number)
    splits = open_masks(tmp_path, class_names=NAMES, selection=0.2, test=0.2)
    assert len(splits.train) + len(splits.selection) + len(splits.test) == 6


def test_folders_of_classes_are_no_masks(tmp_path):
    for name in ("cat", "dog"):
        picture(tmp_path / "train" / name / "0.png")
    assert guess(tmp_path) == ("classification", "")
    with pytest.raises(DataError, match="expected pictures with masks"):
        open_masks(tmp_path)


def test_one_value_beyond_the_named_classes_is_taken_for_ignored_and_said(tmp_path):
    splits = open_masks(world(tmp_path, values=(0, 1, 2, 3)), class_names=NAMES)
    assert any("the value 3 is beyond the 3 classes" in note for note in splits.notes)
    assert splits.train.targets(torch.arange(6)).unique().tolist() == [0, 1, 2, IGNORED]


def test_without_names_the_values_are_the_classes_except_what_is_ignored(tmp_path):
    world(tmp_path, values=(0, 1, 2, 255))
    assert open_masks(tmp_path).classes == ("0", "1", "2")
    less = open_masks(tmp_path, ignore_index=0)
    assert less.classes == ("1", "2")
    assert less.train.targets(torch.arange(6)).unique().tolist() == [0, 1, IGNORED]
    (tmp_path / "classes.txt").write_text("wall\ncat\ndog\n")
    assert open_masks(tmp_path).classes == tuple(NAMES)


@pytest.mark.parametrize("names", [None, ["back", "front"]])
def test_masks_of_0_and_255_are_refused_for_255_is_no_class(tmp_path, names):
    with pytest.raises(DataError, match=r"only the values 0 and 255, and 255 stands .* Save the masks with 0 and 1"):
        open_masks(world(tmp_path, values=(0, 255)), class_names=names)


def test_a_named_class_that_is_nowhere_is_told(tmp_path):
    notes = open_masks(world(tmp_path), class_names=[*NAMES, "eel", "fox"]).notes
    assert "no mask has a pixel of 2 of the classes: eel; fox." in notes
    assert not any("no mask has" in note for note in open_masks(tmp_path, class_names=NAMES).notes)


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_cannot_be_used_is_left_out_or_refused(tmp_path, in_memory):
    world(tmp_path)
    (tmp_path / "train" / "masks" / "01.png").unlink()
    (tmp_path / "train" / "masks" / "02.png").write_bytes(b"no picture")
    (tmp_path / "train" / "images" / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"found 2 of 13 without: .*train/images/01 \(no mask\).*02 \(mask:"):
        open_masks(tmp_path, class_names=NAMES, max_bad=1, in_memory=in_memory)
    splits = open_masks(tmp_path, class_names=NAMES, max_bad=2, in_memory=in_memory)
    assert splits.train.index.tolist() == [0, 4, 5]
    assert any("2 pictures without a readable mask are left out" in note for note in splits.notes)
    assert torch.equal(
        splits.train.targets(torch.tensor([1]))[0],
        torch.from_numpy(np.array(Image.open(tmp_path / "train" / "masks" / "04.png"))),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda at: mask(at / "02.png", size=(12, 15)), "found 1 that are not: the mask of train/images/02 is 12x15"),
        (lambda at: mask(at / "02.png", values=(0, 7, 9)), "found 7, 9, the first in the mask of train/images/02"),
        (lambda at: picture(at / "02.png"), "RGB pixels: a mask holds one number for each pixel"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    change(world(tmp_path) / "train" / "masks")
    with pytest.raises(DataError, match=message):
        open_masks(tmp_path, class_names=NAMES)


@pytest.mark.parametrize("in_memory", [True, False])
def test_grey_and_16_bit_pictures_are_read_as_8_bits(tmp_path, in_memory):
    high = np.random.default_rng(0).integers(0, 65536, (12, 16), dtype=np.uint16)
    low = torch.from_numpy((high >> 8).astype(np.uint8))
    for file in world(tmp_path).rglob("images/*.png"):
        Image.fromarray(high).save(file)
    splits = open_masks(tmp_path, class_names=NAMES, in_memory=in_memory)
    assert "12x16 grey" in splits.guess
    assert torch.equal(splits.train.batch(torch.tensor([0]))["inputs"][0], low[None])
    Image.fromarray(low.numpy()).save(tmp_path / "train" / "images" / "01.png")
    picture(tmp_path / "train" / "images" / "02.png")
    train = open_masks(tmp_path, class_names=NAMES, in_memory=in_memory).train
    assert torch.equal(train.batch(torch.tensor([0, 1]))["inputs"], low.expand(2, 3, -1, -1))


@pytest.mark.parametrize("in_memory", [True, False])
def test_masks_of_16_bits_hold_numbers_of_classes_up_to_255(tmp_path, in_memory):
    file = world(tmp_path, values=(0, 1, 2, 255)) / "train" / "masks" / "02.png"
    written = np.array(Image.open(file))
    Image.fromarray(written.astype(np.uint16)).save(file)
    train = open_masks(tmp_path, class_names=NAMES, in_memory=in_memory).train
    assert torch.equal(train.targets(torch.tensor([2]))[0], torch.from_numpy(written))
    Image.fromarray(written.astype(np.uint16) * 256).save(file)
    with pytest.raises(DataError, match=r"train/images/02 \(mask: values up to 65280: at most 255 classes"):
        open_masks(tmp_path, class_names=NAMES, in_memory=in_memory)


def test_a_stated_ignore_index_allows_no_other_value_beyond_the_classes(tmp_path):
    world(tmp_path, values=(0, 1, 2, 3))
    with pytest.raises(DataError, match=r"0 to 2.*and 11, 255 for pixels without one; found 3"):
        open_masks(tmp_path, class_names=NAMES, ignore_index=11)


def test_a_test_split_without_masks_is_left_out_and_one_is_cut(tmp_path):
    world(tmp_path, {"train": 8, "val": 3})
    for number in range(4):
        picture(tmp_path / "test" / "images" / f"{number}.png")
    splits = open_masks(tmp_path, class_names=NAMES, test=0.25)
    assert "the test split has no masks and is left out." in splits.notes
    assert (len(splits.train), len(splits.selection), len(splits.test)) == (6, 3, 2)


def test_a_picture_without_any_valid_pixel_counts_as_unlabelled(tmp_path):
    world(tmp_path)
    mask(tmp_path / "train" / "masks" / "02.png", values=(255,))
    splits = open_masks(tmp_path, class_names=NAMES)
    assert splits.train.labelled.tolist() == [True, True, False, True, True, True]
    assert any("1 pictures have no pixel of any class" in note for note in splits.notes)


def test_pictures_and_masks_are_scaled_and_cropped_alike(tmp_path):
    for split in ("train", "val", "test"):
        for number in range(4):
            values = np.random.default_rng(number).integers(0, 3, (4, 6), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            for folder, image in (("images", np.stack([values * 100] * 3, 2)), ("masks", values)):
                (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(tmp_path / split / folder / f"{number}.png")
    for in_memory in (True, False):
        raw = open_masks(tmp_path, image_size=(16, 16), in_memory=in_memory).train.batch(torch.arange(4))
        centres = (slice(None), slice(2, None, 4), slice(2, None, 4))  # away from the edges, where pictures blend
        assert torch.equal((raw["inputs"][:, 0][centres] / 100).round().long(), raw["target"][centres].long())


def test_frames_of_a_video_are_blocks_within_their_sequence(tmp_path):
    for sequence, count in (("a_", 12), ("b_", 9)):  # three blocks of ten: nothing is guessed
        for n in range(count):
            for folder, write in (("images", picture), ("masks", mask)):
                write(tmp_path / "train" / folder / f"{sequence}{30 * n:05}.png", seed=n)
    splits = open_masks(tmp_path, class_names=NAMES, test=0.1, frames=5)
    both = torch.cat([splits.train.blocks, splits.selection.blocks, splits.test.blocks])
    assert both.bincount().tolist() == [5, 5, 2, 5, 4]
    parts = [set(part.blocks.tolist()) for part in (splits.train, splits.selection, splits.test)]
    assert all(parts)
    assert sum(map(len, parts)) == 5, "frames of one block lie in two slices"
    guessed = open_masks(tmp_path, class_names=NAMES)
    assert guessed.train.blocks is None
    assert any("frames of 2 videos, too few" in note and "data.frames=10" in note for note in guessed.notes)
    assert open_masks(tmp_path, class_names=NAMES, frames=0).train.blocks is None
    assert open_masks(world(tmp_path / "still"), class_names=NAMES).train.blocks is None


def test_other_masks_have_another_fingerprint(tmp_path):
    world(tmp_path)
    for in_memory in (True, False):
        first = open_masks(tmp_path, class_names=NAMES, in_memory=in_memory).fingerprint
        assert open_masks(tmp_path, class_names=NAMES, in_memory=in_memory).fingerprint == first
    mask(tmp_path / "train" / "masks" / "02.png", seed=9)
    assert open_masks(tmp_path, class_names=NAMES, in_memory=True).fingerprint != first


def coded(samples=6):
    """Pictures whose red channel says the class of the mask, in flat squares."""
    masks = torch.randint(3, (samples, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    masks = masks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return (60 + 60 * masks)[:, None].expand(-1, 3, -1, -1).contiguous(), masks


def test_views_move_picture_and_mask_together():
    pictures, masks = coded()
    index, view = torch.arange(6), torch.tensor([0, 1, 2, 3, 4, -1])
    seen, marks = AugmentMasks(flip=True, scale=2.0).pair(pictures, masks, index, view)
    said = (seen[:, 0].float() / 60).round() - 1
    inside = (marks != IGNORED) & (seen[:, 0] > 30)
    assert (said == marks)[inside].float().mean() > 0.9  # pictures blend at the edges of squares
    assert torch.equal(seen[5], pictures[5])
    assert torch.equal(marks[5], masks[5])
    assert not torch.equal(marks[:5], masks[:5])
    assert (seen[:, 0][marks == IGNORED] < 200).all()


def test_a_flip_alone_is_exact():
    pictures, masks = coded()
    seen, marks = AugmentMasks(flip=True).pair(pictures, masks, torch.arange(6), torch.arange(6))
    flipped = [bool((a != b).any()) for a, b in zip(marks, masks, strict=True)]
    assert 0 < sum(flipped) < 6
    for n in range(6):
        assert torch.equal(seen[n], pictures[n].flip(2) if flipped[n] else pictures[n])
        assert torch.equal(marks[n], masks[n].flip(1) if flipped[n] else masks[n])


def test_a_view_depends_on_index_and_view_alone(tmp_path):
    train = open_masks(world(tmp_path), class_names=NAMES).train
    augment = AugmentMasks.usual(train.shape)
    loader = Loader(train, batch_size=3, seed=0, augment=augment)
    raw = loader.batch(epoch=2, step=1)
    for n, number in enumerate(raw["index"].tolist()):
        one = train.batch(torch.tensor([number]), augment, raw["view"][n : n + 1])
        assert torch.equal(one["inputs"][0], raw["inputs"][n])
        assert torch.equal(one["target"][0], raw["target"][n])


@pytest.mark.parametrize("wrong", [{"scale": 0.5}, {"brightness": -1}])
def test_amounts_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="scale of 1 or more"):
        AugmentMasks(**wrong)


def pairs(samples=10, seed=0, classes=NAMES):
    class Own(list):
        pass

    draws = torch.Generator().manual_seed(seed)
    made = Own(
        (torch.rand(3, 8, 8, generator=draws), torch.randint(-1, 3, (8, 8), generator=draws)) for _ in range(samples)
    )
    made.classes = classes
    return made


def test_pictures_of_a_data_set_are_scaled_with_their_masks_unless_they_are_floats():
    own = [((60 + 60 * m)[None].expand(3, -1, -1).to(torch.uint8), m) for _, m in pairs()]
    assert open_masks(own, image_size=4).train.batch(torch.arange(3))["target"].shape == (3, 4, 4)
    assert open_masks(pairs(), image_size=4).train.batch(torch.arange(3))["target"].shape == (3, 8, 8)


def test_a_data_set_of_pictures_and_masks_is_taken_as_it_is():
    splits = open_masks({"train": pairs(10), "test": pairs(4, seed=1)}, selection=0.2)
    assert (len(splits.train), len(splits.selection), len(splits.test)) == (8, 2, 4)
    assert splits.classes == tuple(NAMES)
    mask = pairs(4, seed=1)[2][1]
    assert torch.equal(splits.test.targets(torch.tensor([2]))[0].long(), mask.where(mask >= 0, IGNORED))


@pytest.mark.parametrize(
    "form",
    [
        lambda m: m,
        lambda m: m.astype(np.uint16),
        lambda m: Image.fromarray(m.astype(np.uint8)),
        lambda m: Image.fromarray(m.astype(np.uint8)).convert("P"),
        lambda m: Image.fromarray(m.astype(np.uint16)),
        lambda m: Image.fromarray(m.astype(np.int32)),
        lambda m: Image.fromarray(m.astype(bool)),
    ],
    ids=["int64", "uint16", "L", "P", "I;16", "I", "1"],
)
def test_masks_of_a_data_set_may_have_any_form_of_whole_numbers(form):
    own = pairs()
    truth = [(mask > 0).long() for _, mask in own]
    for number, mask in enumerate(truth):
        own[number] = (own[number][0], form(mask.numpy()))
    splits = open_masks({"train": own, "test": own})
    assert torch.equal(splits.test.targets(torch.arange(10)).long(), torch.stack(truth))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own.__setitem__(3, (own[3][0], Image.new("RGB", (8, 8)))), "at sample train 3, found RGB pixels"),
        (lambda own: own.__setitem__(3, (own[3][0], np.full((8, 8), 256, np.uint16))), "up to 255 at sample train 3"),
        (lambda own: own.__setitem__(3, (own[3][0], torch.zeros(8, 7, dtype=torch.long))), "at sample train 3"),
        (lambda own: own.__setitem__(3, (own[3][0], torch.zeros(8, 8))), "whole numbers up to 255 at sample train 3"),
        (lambda own: own.__setitem__(3, (own[3][0], torch.full((8, 8), 7))), "255 for pixels without one|is beyond"),
        (lambda own: own.clear(), "found none"),
    ],
)
def test_samples_that_are_no_such_pairs_are_refused_by_number(change, message):
    own = pairs()
    change(own)
    if "beyond" in message:
        own[4] = (own[4][0], torch.full((8, 8), 9))
    with pytest.raises(DataError, match=message):
        open_masks(own)


def named(parts, frames=None, test=0.2):
    return blocks_of(parts, frames, test)


def test_frames_are_guessed_where_numbers_go_on_in_one_step():
    video = [f"{sequence}_{30 * n:05}" for sequence in ("a", "b") for n in range(160)]
    blocks, notes = named({"train": video})
    assert blocks.bincount().tolist() == [10] * 32
    assert "look like frames of 2 videos" in notes[0]
    few, notes = named({"train": video, "test": [f"c_{2 * n}" for n in range(50)]})
    assert few is None
    assert "too few" in notes[0]
    assert named({"train": video, "test": [f"c_{2 * n}" for n in range(60)]})[0] is not None
    assert named({"train": video, "test": ["c_1", "other"]}) == (None, [])


def test_photos_with_numbers_are_no_video():
    numbers = sorted(random.Random(0).sample(range(1, 1000), 400))
    assert named({"train": [f"IMG_{number:04}" for number in numbers]}) == (None, [])
    assert named({"train": [f"IMG_{number:04}" for number in range(400)]}) == (None, [])


def test_two_pictures_of_one_name_are_refused(tmp_path):
    world(tmp_path)
    picture(tmp_path / "train" / "images" / "02.jpg")
    with pytest.raises(DataError, match=r"one picture of each name.*found 02\.jpg and 02\.png"):
        open_masks(tmp_path)


@pytest.mark.parametrize("lists", [{"trainval": range(6), "test": range(6, 10)}, {"test": range(6, 10)}])
def test_what_is_listed_for_testing_is_not_trained_on(tmp_path, lists):
    folder = tmp_path / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    for name, numbers in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{number:02}\n" for number in numbers))
    for number in range(10):
        picture(tmp_path / "JPEGImages" / f"{number:02}.png", seed=number)
        mask(tmp_path / "SegmentationClass" / f"{number:02}.png", seed=number)
    splits = open_masks(tmp_path, class_names=NAMES, selection=0.2)
    assert (len(splits.train), len(splits.selection), len(splits.test)) == (5, 1, 4)


def test_masks_of_pictures_that_a_camera_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    world(tmp_path)
    for split in ("train", "val", "test"):
        (tmp_path / split / "images" / "02.png").unlink()
        Image.new("RGB", (12, 16)).save(tmp_path / split / "images" / "02.jpg", exif=exif)
    assert open_masks(tmp_path).train.shape == (3, 12, 16)
    mask(tmp_path / "train" / "masks" / "02.png", size=(16, 12))
    with pytest.raises(DataError, match=r"02 is 16x12, its picture 12x16.*EXIF.*Orientation"):
        open_masks(tmp_path)


def test_one_picture_cannot_be_cut(tmp_path):
    for folder, write in (("images", picture), ("masks", mask)):
        write(tmp_path / folder / "0.png")
    with pytest.raises(DataError, match=r"expected at least 2 samples to draw the test from, found 1\. Add"):
        open_masks(tmp_path)
