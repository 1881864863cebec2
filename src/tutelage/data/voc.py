"""Pascal VOC: ``JPEGImages``, ``Annotations/*.xml`` and lists of names in ``ImageSets/Main``; or all in one folder."""

import pathlib
from typing import Any
from xml.etree import ElementTree

from tutelage.errors import DataError

from .boxes import Annotated, Raw, from_annotated, joined
from .image_folder import SUFFIXES, by_stem, voc_lists
from .source import Source

PICTURES = ("jpegimages", "images")
"""Folders of the pictures in small letters, the first that is there."""


def voc(root: pathlib.Path, **options: Any) -> Source | None:
    """A folder in the layout of Pascal VOC.

    Pixels are counted from 1 there, both ends included; here a box goes from the left edge of its first pixel to the
    right edge of its last. Lists of ``ImageSets/Main`` are the splits, as `voc_lists` reads them; without any, all
    annotations are the training set. Boxes marked as difficult are boxes like all others.

    Args:
        root: The folder.
        options: For `from_annotated`.

    Returns:
        The data set; None if this is another layout. Classes are in alphabetical order.

    Raises:
        DataError: A listed picture or annotation is missing, an annotation is damaged, or a picture has another size
            than its annotation states.
    """
    there = places(root)
    if there is None:
        return None
    folder, annotations = there
    pictures = by_stem(folder, SUFFIXES)
    stems = sorted(file.stem for file in annotations.glob("*.xml"))
    lists = voc_lists(root / "ImageSets" / "Main", stems)
    bare = [] if lists else sorted(pictures.keys() - stems)
    listed: dict[str, Annotated] = {}
    difficult = 0
    for part, names in (lists or {"train": stems}).items():
        found = listed.setdefault(part, Annotated())
        for name in names:
            if name not in pictures or not (annotations / f"{name}.xml").is_file():
                raise DataError(
                    f"{root}: expected a picture and {annotations.name}/{name}.xml for {name!r} of the {part} set; one "
                    "of them is missing. Add it, or strike the name from the list."
                )
            boxes, marked, size = _read(annotations / f"{name}.xml")
            difficult += marked
            found.files.append(pictures[name])
            found.boxes.append(boxes)
            found.sizes.append(size)
    notes = [f"{difficult:,} boxes are marked as difficult: they count like all others."] * bool(difficult)
    told = f"{len(bare):,} pictures have no annotation and are not read: {', '.join(bare[:5])}."
    notes += [told] * bool(bare)
    layout = f"Pascal VOC with {', '.join(lists)}" if lists else "Pascal VOC without lists"
    return from_annotated(f"{root.name}/", layout, listed, joined(listed), notes, **options)


def places(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path] | None:
    """The folders of the pictures and of their annotations; None if this is another layout."""
    there = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    annotations = there.get("annotations", root)
    if not any(annotations.glob("*.xml")):
        return None
    pictures = root if annotations == root else next((there[name] for name in PICTURES if name in there), None)
    if pictures is None or not any(path.suffix.lower() in SUFFIXES for path in pictures.iterdir()):
        return None
    return pictures, annotations


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
