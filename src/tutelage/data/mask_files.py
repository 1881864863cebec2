"""Where pictures and their masks are: two folders side by side, or Pascal VOC's; nothing is opened."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.errors import DataError

from .coco_masks import Drawn
from .image_folder import SPLITS, SUFFIXES, by_stem, voc_lists

PICTURES = ("images", "image", "imgs", "jpegimages")
MASKS = ("masks", "mask", "labels", "annotations", "segmentationclass")
MARKS = (".png", ".bmp", ".tif", ".tiff", ".gif")
"""Files of masks: formats that keep every value."""

LAYOUTS = {
    "SPLIT/images, SPLIT/masks": "train/images/NAME.jpg with train/masks/NAME.png, val/ and test/ beside them",
    "images/SPLIT, masks/SPLIT": "the same with the two levels exchanged",
    "images, masks": "one set without a split",
    "VOC": "JPEGImages, SegmentationClass and ImageSets/Segmentation/{train,val,test}.txt",
    "COCO": "JSON files with images, categories and annotations with a segmentation, in the folder or in annotations/",
}


@dataclass(frozen=True)
class Pair:
    """A picture and its mask.

    Args:
        name: What people call it: its path within the set, without a suffix.
        picture: Its file.
        mask: The file of its mask, or what to draw; None where there is none.
    """

    name: str
    picture: pathlib.Path
    mask: pathlib.Path | Drawn | None


def find_pairs(root: pathlib.Path) -> tuple[str, dict[str, list[Pair]]] | None:
    """The layout of a folder, and the pairs of each part (``train``, and ``selection`` and ``test`` if there are any).

    Nothing is opened. None where it is no folder of pictures with masks.
    """
    if not root.is_dir():
        return None
    there = _folders(root)
    if {"jpegimages", "segmentationclass"} <= there.keys():
        return "Pascal VOC", _voc(root, there)
    pictures, masks = _first(there, PICTURES), _first(there, MASKS)
    if pictures is not None and masks is not None:
        inside = _splits(_folders(pictures))
        if not inside:
            listed = {"train": _pairs(root, pictures, masks)}
            return (f"{pictures.name} and {masks.name}", listed) if any_mask(listed) else None
        below = _folders(masks)
        listed = {split: _pairs(root, folder, below.get(folder.name.lower())) for split, folder in inside.items()}
        return (f"{pictures.name} and {masks.name} with {_told(inside)}", listed) if any_mask(listed) else None
    listed = {}
    for split, folder in (splits := _splits(there)).items():
        inner = _folders(folder)
        pictures = _first(inner, PICTURES)
        if pictures is not None:
            listed[split] = _pairs(root, pictures, _first(inner, MASKS))
    return (f"pictures and masks with {_told(splits)}", listed) if "train" in listed and any_mask(listed) else None


def _voc(root: pathlib.Path, there: Mapping[str, pathlib.Path]) -> dict[str, list[Pair]]:
    pictures = by_stem(there["jpegimages"], SUFFIXES)
    masks = by_stem(there["segmentationclass"], MARKS)
    lists = voc_lists(root / "ImageSets" / "Segmentation", sorted(masks)) or {"train": sorted(masks)}
    for split, names in lists.items():
        if lost := [name for name in names if name not in pictures]:
            raise DataError(
                f"expected a picture in {there['jpegimages']} for each name of the {split} set, found {len(lost):,} "
                f"missing: {some_of(lost)}. Add them, or strike the names from the list."
            )
    return {split: [Pair(name, pictures[name], masks.get(name)) for name in names] for split, names in lists.items()}


def _pairs(root: pathlib.Path, pictures: pathlib.Path, masks: pathlib.Path | None) -> list[Pair]:
    marks = {} if masks is None else by_stem(masks, MARKS)
    shown = by_stem(pictures, SUFFIXES)
    prefix = pictures.relative_to(root).as_posix()
    return [Pair(f"{prefix}/{stem}", file, marks.get(stem)) for stem, file in sorted(shown.items())]


def _folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    return {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}


def _first(there: Mapping[str, pathlib.Path], names: Sequence[str]) -> pathlib.Path | None:
    return next((there[name] for name in names if name in there), None)


def _splits(there: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
    found = {split: there[name] for split, known in SPLITS.items() for name in known if name in there}
    return found if "train" in found else {}


def any_mask(listed: Mapping[str, list[Pair]]) -> bool:
    """Whether any picture has a mask."""
    return any(pair.mask is not None for part in listed.values() for pair in part)


def _told(splits: Mapping[str, pathlib.Path]) -> str:
    return ", ".join(folder.name for folder in splits.values())


def some_of(names: Sequence[str]) -> str:
    """The first names, for messages."""
    return "; ".join(names[:5]) + ("; …" if len(names) > 5 else "")
