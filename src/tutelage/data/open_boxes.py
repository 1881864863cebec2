"""Open a data set for detection: recognise it, check it, cut it into slices that share no sample."""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from tutelage.errors import DataError
from tutelage.foreign import called, load

from .coco import coco
from .cut import cut
from .mask_files import find_pairs
from .own_boxes import own_boxes
from .slices import Splits
from .source import Source
from .voc import places, voc
from .yolo import labelled, yolo

LAYOUTS = {
    "VOC": "JPEGImages, Annotations/NAME.xml and ImageSets/Main/{train,val,test}.txt, or NAME.xml beside each picture",
    "COCO": "JSON files with images, annotations and categories, in the folder or in annotations/, with train, val or "
    "test in their names",
    "YOLO": "images/SPLIT and labels/SPLIT (or SPLIT/images and SPLIT/labels) with a text file for each picture",
}


def open_boxes(
    source: str | os.PathLike[str] | Dataset[Any] | Mapping[str, Dataset[Any]],
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    selection: float = 0.1,
    guard: float | None = 0.0,
    test: float = 0.2,
    limit: int | float | None = None,
    labels: int | float | None = None,
    max_bad: int | float = 0.01,
    in_memory: bool | None = None,
    allow_import: Sequence[str] = (),
) -> Splits:
    """Open pictures with boxes.

    Pictures keep their proportions: they are scaled until they fit, and padded with black at the right and below.

    Args:
        source: A folder in one of the `LAYOUTS`, or a JSON file of COCO; your own `Dataset` of (picture, boxes), or a
            mapping with ``"train"`` and, if there are any, ``"validation"`` and ``"test"``; or ``package.module:name``
            of a function that returns such.
        image_size: Longest side, or height and width, to bring pictures to; rounded up to multiples of 32. By default
            the size they have, or a longest side of 512 where sizes differ.
        seed: Another seed cuts other slices.
        selection: Share of the training set held out for selection, if there is no validation split.
        guard: Share of the labelled training samples held out for the guard; None as for `cut`.
        test: Share of everything held out as test, if there is no test split.
        limit: Training samples to keep: a number, or a share if a float.
        labels: Training samples that keep their boxes.
        max_bad: How many pictures may be unreadable: a number, or a share if a float.
        in_memory: Whether to hold all pictures decoded; by default if they take less than 2 GB.
        allow_import: Packages that may be imported for a source written ``package.module:name``.

    Returns:
        The slices. Targets are float ``[n, M, 5]``: left, top, right, bottom in pixels, class; class -1 pads.

    Raises:
        DataError: The folder cannot be read or used; the message says what to do.
    """
    options: dict[str, Any] = {"image_size": image_size, "in_memory": in_memory}
    if isinstance(source, Mapping) or not isinstance(source, str | os.PathLike):
        found = own_boxes(source, **options)
    elif re.fullmatch(r"\w+(\.\w+)*:\w+", written := os.fspath(source)):
        made = load(written, allow_import, where="data")
        found = own_boxes(called(f"{written}()", made, DataError), name=written, **options)
    else:
        found = _folder(pathlib.Path(source), max_bad=max_bad, **options)
    return cut(found, seed=seed, selection=selection, guard=guard, test=test, limit=limit, labels=labels)


def _folder(path: pathlib.Path, **options: Any) -> Source:
    if not path.exists():
        raise DataError(f"expected a folder of pictures with boxes, found nothing at {path}.")
    readers = (voc, coco, yolo) if path.is_dir() else (coco,)
    opened = (read(path, **options) for read in readers)
    found: Source | None = next((each for each in opened if each is not None), None)
    if found is None:
        raise DataError(
            f"expected pictures with boxes in {path}, found none. Known are: "
            + "; ".join(f"{name}: {what}" for name, what in LAYOUTS.items())
        )
    return found


def looks_like_boxes(path: pathlib.Path) -> str | None:
    """The layout of a folder or file; None if it is none of the `LAYOUTS`.

    Names tell it, but for JSON files among other things: those are looked into.
    """
    if path.is_file():
        return "COCO JSON" if path.suffix.lower() == ".json" else None
    if not path.is_dir():
        return None
    if places(path) is not None:
        return "Pascal VOC boxes"
    if any(path.glob("annotations/*.json")) or any(path.glob("*/_annotations.coco.json")):
        return "COCO JSON"
    # Where there are masks beside such a file, the folder is one for segmentation.
    if any(map(_reads_like_coco, path.glob("*.json"))) and find_pairs(path) is None:
        return "COCO JSON"
    return "YOLO boxes" if "train" in labelled(path) else None


def _reads_like_coco(file: pathlib.Path) -> bool:
    """Whether a file has lists of images and categories; it is not parsed, for it may be large."""
    content = file.read_bytes()
    return all(re.search(rb'"%s"\s*:\s*\[' % word, content) for word in (b"images", b"categories"))
