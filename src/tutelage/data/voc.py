"""Pascal VOC: ``JPEGImages``, ``Annotations/*.xml`` and lists of names in ``ImageSets/Main``."""

import pathlib
from typing import Any
from xml.etree import ElementTree

from tutelage.errors import DataError

from .boxes import Annotated, Raw, from_annotated, joined
from .image_folder import SUFFIXES, listed_names
from .source import Source

PICTURES = ("JPEGImages", "images", "Images")
"""Folders of the pictures, the first that is there."""
SPLITS = {"train": ("train",), "selection": ("val", "valid", "validation"), "test": ("test",)}


def voc(root: pathlib.Path, **options: Any) -> Source | None:
    """A folder in the layout of Pascal VOC.

    Pixels are counted from 1 there, both ends included; here a box goes from the left edge of its first pixel to the
    right edge of its last. Lists of ``ImageSets/Main`` are the splits; without ``train.txt``, ``trainval.txt`` or, if
    there is none either, all annotations are the training set. Boxes marked as difficult are boxes like all others.

    Args:
        root: The folder.
        options: For `from_annotated`.

    Returns:
        The data set; None if this is another layout. Classes are in alphabetical order.

    Raises:
        DataError: A listed picture or annotation is missing, an annotation is damaged, or a picture has another size
            than its annotation states.
    """
    annotations = root / "Annotations"
    if not annotations.is_dir() or not any(annotations.glob("*.xml")):
        return None
    pictures = {file.stem: file for file in _folder(root).iterdir() if file.suffix.lower() in SUFFIXES}
    lists = _lists(root / "ImageSets" / "Main")
    listed: dict[str, Annotated] = {}
    difficult = 0
    for part, names in (lists or {"train": sorted(file.stem for file in annotations.glob("*.xml"))}).items():
        found = listed.setdefault(part, Annotated())
        for name in names:
            if name not in pictures or not (annotations / f"{name}.xml").is_file():
                raise DataError(
                    f"{root}: expected a picture and Annotations/{name}.xml for {name!r} of the {part} list; one of "
                    "them is missing. Add it, or strike the name from the list."
                )
            boxes, marked, size = _read(annotations / f"{name}.xml")
            difficult += marked
            found.files.append(pictures[name])
            found.boxes.append(boxes)
            found.sizes.append(size)
    notes = [f"{difficult:,} boxes are marked as difficult: they count like all others."] * bool(difficult)
    layout = f"Pascal VOC with {', '.join(lists)}" if lists else "Pascal VOC without lists"
    return from_annotated(f"{root.name}/", layout, listed, joined(listed), notes, **options)


def _folder(root: pathlib.Path) -> pathlib.Path:
    for name in PICTURES:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"expected the pictures of {root} in JPEGImages, beside Annotations; there is no such folder.")


def _lists(folder: pathlib.Path) -> dict[str, list[str]]:
    lists = {
        part: listed_names(folder / f"{name}.txt")
        for part, names in SPLITS.items()
        for name in names
        if (folder / f"{name}.txt").is_file()
    }
    if "train" not in lists and (folder / "trainval.txt").is_file():
        lists = {"train": listed_names(folder / "trainval.txt"), **lists}
        lists.pop("selection", None)
    return lists if "train" in lists else {}


def _read(file: pathlib.Path) -> tuple[list[Raw], int, tuple[int, int] | None]:
    """The boxes of an annotation, how many are marked as difficult, and the picture's height and width if stated."""
    try:
        root = ElementTree.parse(file).getroot()
        boxes, difficult = [], 0
        for item in root.findall("object"):
            left, top, right, bottom = (float(_text(item, f"bndbox/{side}")) for side in SIDES)
            flat = right <= left or bottom <= top
            boxes.append((left - (not flat), top - (not flat), right, bottom, _text(item, "name").strip()))
            difficult += (item.findtext("difficult") or "0").strip() == "1"
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{file}: expected objects with a name and a bndbox of xmin, ymin, xmax and ymax; found: {error}. Mend the "
            "file, or strike it from the list."
        ) from error
    high, wide = (_whole(root.findtext(f"size/{side}")) for side in ("height", "width"))
    return boxes, difficult, (high, wide) if high and wide else None


def _whole(text: str | None) -> int:
    """A number that is written, 0 where there is none."""
    said = (text or "").strip()
    return int(said) if said.isdecimal() else 0


SIDES = ("xmin", "ymin", "xmax", "ymax")


def _text(item: ElementTree.Element, place: str) -> str:
    found = item.findtext(place)
    if found is None:
        raise ValueError(f"an object without {place}")
    return found
