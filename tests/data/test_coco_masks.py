"""Shapes of COCO, drawn into masks."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data import open_masks
from tutelage.data.augment_masks import IGNORED
from tutelage.data.coco_masks import filled
from tutelage.errors import DataError

pytest.importorskip("faster_coco_eval")

SIZE = HEIGHT, WIDTH = 12, 16
CATEGORIES = [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}]


def square(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask):
    """A mask as COCO's runs: columns one after the other, beginning with how many are not of it."""
    flat, counts, last = mask.T.flatten().tolist(), [], False
    for value in flat:
        if value != last or not counts:
            counts += [0] * (1 + (not counts and value))
            last = value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def shape(image, category, segmentation, area=1.0, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, "area": area, **more}


def world(root, annotations=None, count=6, part="train", **changes):
    """Pictures named by their ids, and a file with these annotations (by default a cat in each)."""
    folder = root / part
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((*SIZE, 3), number, dtype=np.uint8)).save(folder / f"{number}.png")
    annotations = [shape(n, 4, square(0, 0, 8, 12)) for n in range(count)] if annotations is None else annotations
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(count)],
        "categories": CATEGORIES,
        "annotations": [{"id": 100 + n, **item} for n, item in enumerate(annotations)],
        **changes,
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def mask_of(splits, number):
    """The mask of the picture of this number in the training set, whichever slice it is in."""
    for part in (splits.train, splits.selection, splits.test):
        pictures = part.gather(torch.arange(len(part)))
        for position in range(len(part)):
            if int(pictures[position, 0, 0, 0]) == number:
                return part.targets(torch.tensor([position]))[0]
    raise AssertionError(number)


@pytest.mark.parametrize("in_memory", [True, False])
def test_shapes_of_every_kind_become_classes_in_the_order_of_the_ids(tmp_path, in_memory):
    drawn = torch.zeros(SIZE, dtype=torch.bool)
    drawn[3:7, 10:13] = True
    holes = [square(0, 0, 4, 4)[0], square(8, 8, 16, 12)[0]]  # one thing of two parts
    world(tmp_path, [shape(0, 4, holes), shape(1, 9, runs(drawn)), shape(2, 9, square(0, 0, 16, 12))])
    splits = open_masks(tmp_path, in_memory=in_memory)
    assert splits.classes == ("background", "cat", "dog")
    assert "COCO JSON with instances_train.json" in splits.guess
    assert any("no shape covers" in note for note in splits.notes)
    first = torch.zeros(SIZE, dtype=torch.uint8)
    first[:4, :4] = first[8:, 8:] = 1
    assert torch.equal(mask_of(splits, 0), first)
    assert torch.equal(mask_of(splits, 1), 2 * drawn.to(torch.uint8))
    assert mask_of(splits, 2).eq(2).all()
    assert mask_of(splits, 3).eq(0).all()  # a picture with nothing in it is background


def test_compressed_runs_are_read():
    from faster_coco_eval.core import mask as coder

    drawn = torch.rand(SIZE, generator=torch.Generator().manual_seed(0)) > 0.5
    packed = coder.encode(np.asfortranarray(drawn.numpy().astype(np.uint8)))
    told = {"size": list(SIZE), "counts": packed["counts"].decode()}
    assert torch.equal(filled(told, SIZE), drawn)
    assert torch.equal(filled(runs(drawn), SIZE), drawn)


def test_small_things_are_seen_on_large_ones_and_crowds_are_ignored(tmp_path):
    small, large = square(4, 4, 8, 8), square(0, 0, 12, 12)
    crowd = torch.zeros(SIZE, dtype=torch.bool)
    crowd[:, 6:] = True
    annotations = [
        shape(0, 9, small, area=16.0),
        shape(0, 4, large, area=144.0),
        shape(0, 4, runs(crowd), area=1.0, iscrowd=1),
    ]
    found = mask_of(open_masks(world(tmp_path, annotations)), 0)
    assert found[4:8, 4:8].eq(2).all()
    assert found[:4, :12].eq(1).all()
    assert found[:, 12:].eq(IGNORED).all()


def test_the_background_may_be_left_out_or_be_a_category(tmp_path):
    splits = open_masks(world(tmp_path / "one"), ignore_index=0)
    assert splits.classes == ("cat", "dog")
    assert sorted(mask_of(splits, 0).unique().tolist()) == [0, IGNORED]
    named = [{"id": 1, "name": "Background"}, *CATEGORIES]
    annotations = [shape(n, 1 if n else 9, square(0, 0, 8, 12)) for n in range(6)]
    splits = open_masks(world(tmp_path / "two", annotations, categories=named))
    assert splits.classes == ("background", "cat", "dog")
    assert mask_of(splits, 1).eq(0).all()
    assert mask_of(splits, 0).unique().tolist() == [0, 2]


def test_splits_of_their_own_are_kept_and_one_file_is_enough(tmp_path):
    for part, count in (("train", 6), ("val", 3), ("test", 2)):
        world(tmp_path, part=part, count=count)
    splits = open_masks(tmp_path)
    assert (len(splits.train), len(splits.selection), len(splits.test)) == (6, 3, 2)
    alone = open_masks(tmp_path / "annotations" / "instances_train.json", test=0.0, selection=0.2)
    assert len(alone.train) + len(alone.selection) == 6
    assert alone.guess.startswith("instances_train.json: COCO JSON")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [shape(0, 5, square(0, 0, 2, 2))]}, "annotation 100 expected an image and a category"),
        ({"annotations": [shape(77, 4, square(0, 0, 2, 2))]}, "found image 77 and category 4"),
        ({"annotations": [{"image_id": 0, "category_id": 4, "bbox": [0, 0, 2, 2]}]}, "found none.*--task detection"),
        ({"annotations": [shape(0, 4, [])]}, "expected a segmentation"),
        ({"images": [{"id": 0, "file_name": "x.png", "height": 12, "width": 16}], "annotations": []}, r"'x\.png' bes"),
        ({"images": [{"id": 0, "file_name": "0.png"}], "annotations": []}, "found something else: 'height'"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, changes, message):
    annotations = changes.pop("annotations")
    with pytest.raises(DataError, match=message):
        open_masks(world(tmp_path, annotations, **changes))


def test_more_categories_than_a_mask_can_hold_are_refused(tmp_path):
    many = [{"id": n, "name": f"thing {n}"} for n in range(255)]
    with pytest.raises(DataError, match=r"at most 254 categories.*found 255"):
        open_masks(world(tmp_path, categories=many))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 3, 3]], "fewer than three points"),
        ({"size": [5, 5], "counts": [25]}, r"runs of size \[5, 5\] for a picture of 12x16"),
        ({"size": list(SIZE), "counts": [500]}, "exceed"),
        ("all", "str for a picture"),
    ],
)
def test_a_shape_that_cannot_be_drawn_is_an_unreadable_mask(tmp_path, segmentation, message):
    annotations = [shape(n, 4, segmentation if n == 2 else square(0, 0, 8, 8)) for n in range(6)]
    with pytest.raises(DataError, match=rf"found 1 of 6 without: 2 \(mask: .*{message}"):
        open_masks(world(tmp_path, annotations))
    assert len(open_masks(tmp_path, max_bad=1, test=0.0, selection=0.2).train) == 4


@pytest.mark.parametrize("area", [{}, {"area": None}, {"area": 0}])
def test_shapes_that_do_not_state_their_area_are_measured(tmp_path, area):
    annotations = [shape(0, 9, square(4, 4, 8, 8)), shape(0, 4, square(0, 0, 12, 12))]
    for item in annotations:
        item.pop("area")
        item.update(area)
    found = mask_of(open_masks(world(tmp_path, annotations)), 0)
    assert found[4:8, 4:8].eq(2).all()
    assert found[:4, :12].eq(1).all()
