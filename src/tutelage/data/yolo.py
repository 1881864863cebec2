"""YOLO: a text file of relative boxes for each picture, in ``labels`` beside ``images``."""

import pathlib
from typing import Any

from tutelage.errors import DataError, MissingExtra

from .boxes import Annotated, Raw, from_annotated
from .encoded import size_of
from .image_folder import SPLITS, SUFFIXES, by_stem
from .source import Source


def yolo(root: pathlib.Path, **options: Any) -> Source | None:
    """A folder in the layout of YOLO: ``images/train`` and ``labels/train``, or ``train/images`` and ``train/labels``.

    A split may have a year behind its name (``train2017``); without splits, ``images`` and ``labels`` are the training
    set. Folders below are read. Each line is ``class x y width height``, the centre and the size as shares of the
    picture. A picture without a text file, or with an empty one, is background. Names of the classes come from a YAML
    file with ``names`` (or from ``classes.txt``), else they are numbers.

    Args:
        root: The folder.
        options: For `from_annotated`.

    Returns:
        The data set; None if this is another layout.

    Raises:
        DataError: A line is no box, its class has no name, two folders are one split, or two pictures have one name.
    """
    splits = labelled(root)
    if "train" not in splits:
        return None
    names = _names(root)
    read: dict[str, Annotated] = {}
    alone: list[str] = []
    for part, (images, labels) in splits.items():
        files = by_stem(images, SUFFIXES)
        told = {file.relative_to(labels).with_suffix("").as_posix() for file in labels.rglob("*.txt")}
        alone += sorted(told - files.keys() - {"classes"})
        boxes = [_read(labels / f"{stem}.txt", file, names) for stem, file in files.items()]
        read[part] = Annotated(list(files.values()), boxes)
    if names is None:
        highest = max((int(box[4]) for part in read.values() for raw in part.boxes for box in raw), default=-1)
        names = [str(number) for number in range(highest + 1)]
    note = f"{len(alone):,} text files of boxes have no picture and are not read: {', '.join(alone[:5])}."
    return from_annotated(
        f"{root.name}/", f"YOLO with {', '.join(splits)}", read, names, [note] * bool(alone), **options
    )


def labelled(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """The folders of pictures and of text files of each part that has any.

    Raises:
        DataError: Two folders are one part.
    """
    images, labels = root / "images", root / "labels"
    pairs = [(folder.name, folder, labels / folder.name) for folder in _folders(images)]
    pairs += [(folder.name, folder / "images", folder / "labels") for folder in _folders(root)]
    found: dict[str, tuple[pathlib.Path, pathlib.Path]] = {}
    for part, words in SPLITS.items():
        fitting = [pair for pair in pairs if pair[0].lower().rstrip("0123456789_-") in words and _hold_boxes(*pair[1:])]
        if len(fitting) > 1:
            told = ", ".join(name for name, *_ in fitting)
            raise DataError(f"{root}: expected one folder for {part}, found {told}. Join or rename them.")
        if fitting:
            found[part] = fitting[0][1:]
    return found or ({"train": (images, labels)} if _hold_boxes(images, labels) else {})


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _hold_boxes(images: pathlib.Path, labels: pathlib.Path) -> bool:
    texts = (file for file in labels.rglob("*.txt") if file.name != "classes.txt")
    return images.is_dir() and labels.is_dir() and any(texts)


def _names(root: pathlib.Path) -> list[str] | None:
    """Names of the classes, where a file gives them."""
    for file in sorted((*root.glob("*.yaml"), *root.glob("*.yml"))):
        try:
            import yaml
        except ImportError as error:
            raise MissingExtra("reading YAML needs PyYAML: pip install 'tutelage[train]'") from error
        try:
            content = yaml.safe_load("\n".join(_lines(file)))
        except yaml.YAMLError as error:
            raise DataError(f"{file}: expected YAML, found a damaged file. Restore it.") from error
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            if {str(key) for key in names} != {str(number) for number in range(len(names))}:
                raise DataError(
                    f"{file}: expected names for the classes 0 to {len(names) - 1}, found them for "
                    f"{', '.join(map(str, names))}. Number them without a gap, as the text files do."
                )
            names = [names[key] for key in sorted(names, key=int)]
        if isinstance(names, list):
            return [str(name) for name in names]
    file = root / "classes.txt"
    return [name.strip() for name in _lines(file) if name.strip()] if file.is_file() else None


def _lines(file: pathlib.Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected text in UTF-8, found something else. Restore it.") from error


def _read(file: pathlib.Path, picture: pathlib.Path, names: list[str] | None) -> list[Raw]:
    if not file.is_file():
        return []
    lines = [(number, line.split()) for number, line in enumerate(_lines(file), 1) if line.strip()]
    try:
        height, width = size_of(picture) if lines else (0, 0)
    except Exception:  # an unreadable picture is counted where pictures are opened
        return []
    boxes: list[Raw] = []
    for number, line in lines:
        try:
            label, (x, y, w, h) = int(line[0]), map(float, line[1:])
        except ValueError as error:
            raise DataError(
                f"{file}, line {number}: expected a class and four numbers (x y width height), found "
                f"{' '.join(line)!r}. Polygons cannot be read; mend or remove the line."
            ) from error
        if label < 0 or (names is not None and label >= len(names)):
            raise DataError(
                f"{file}, line {number}: expected a class from 0 to {len(names or ()) - 1}, found {label}. Name it in "
                "the YAML file, or mend the line."
            )
        name = str(label) if names is None else names[label]
        boxes.append(((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height, name))
    return boxes
