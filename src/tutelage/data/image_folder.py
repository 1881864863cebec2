"""Folders named after their class, with or without a folder for each split above them."""

import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tutelage.errors import DataError

from .encoded import Encoded
from .source import Listed, Source, from_encoded

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
SPLITS = {
    "train": ("train", "training"),
    "selection": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_PAIRED = {
    "images",
    "masks",
    "labels",
    "annotations",
    "jpegimages",
    "imagesets",
    "hr",
    "lr",
    "inputs",
    "targets",
}


def listed_names(file: pathlib.Path) -> list[str]:
    """The names in a text file, one a line; they may hold spaces."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line]


def by_stem(folder: pathlib.Path, suffixes: Collection[str]) -> dict[str, pathlib.Path]:
    """The files below a folder by their path within it, without a suffix.

    Raises:
        DataError: Two differ only in their suffix.
    """
    files = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and not path.name.startswith("."))
    found: dict[str, pathlib.Path] = {}
    for path in sorted(files):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DataError(
                f"expected one picture of each name in {folder}, for what belongs to it has that name; found "
                f"{found[stem].name} and {path.name}. Rename or remove one."
            )
        found[stem] = path
    return found


def voc_lists(folder: pathlib.Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The names of each part, as the lists of Pascal VOC have them; empty where there are none.

    Without ``train.txt``, ``trainval.txt`` is the training set and the list of validation is part of it; without
    either, the training set is what is on no list.

    Args:
        folder: Where the lists are.
        names: All names there are.
    """
    files = {
        part: [file for word in words if (file := folder / f"{word}.txt").is_file()] for part, words in SPLITS.items()
    }
    both = folder / "trainval.txt"
    if not files["train"] and both.is_file():
        files |= {"train": [both], "selection": []}
    lists = {part: listed_names(several[0]) for part, several in files.items() if several}
    if not lists or "train" in lists:
        return lists
    listed = {name for part in lists.values() for name in part}
    return {"train": [name for name in names if name not in listed], **lists}


def image_folder(root: pathlib.Path, **options: Any) -> Source | None:
    """``CLASS/PICTURE``, or ``train/CLASS/PICTURE`` with ``val`` and ``test`` beside it where they exist.

    Args:
        root: The folder.
        options: For `open_encoded`.

    Returns:
        The data set; None if this is another layout. Classes are in alphabetical order.

    Raises:
        DataError: The folders of the splits differ, a class has no picture, or the folders are not classes.
    """
    splits = _splits(root)
    layout = f"ImageFolder with {', '.join(path.name for path in splits.values())}" if splits else "ImageFolder"
    found, notes = {}, []
    for split, folder in (splits or {"train": root}).items():
        classes = {path.name: pictures_below(path) for path in _folders(folder)}
        loose = sum(_is_picture(path) for path in folder.iterdir())
        if loose:
            notes.append(f"{folder.name}/: {loose:,} pictures outside class folders have no label and are left out.")
        if any(classes.values()):
            found[split] = classes
    if "train" not in found:
        return None
    _refuse_pairs(root, found["train"])
    _refuse_differing(root, found)
    names = sorted(found["train"])
    listed = {split: _listed(root, classes, names) for split, classes in found.items()}
    return from_encoded(f"{root.name}/", layout, listed, names, notes, **options)


def _splits(root: pathlib.Path) -> dict[str, pathlib.Path]:
    there = {path.name.lower(): path for path in _folders(root)}
    splits = {split: there[name] for split, known in SPLITS.items() for name in known if name in there}
    return splits if "train" in splits else {}


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    hidden = (".", "__")
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(hidden))


def pictures_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """All pictures in a folder and in those below it."""
    walk = os.walk(folder, followlinks=True)
    files = (pathlib.Path(where) / name for where, _, names in walk for name in names)
    return sorted(path for path in files if _is_picture(path))


def _is_picture(path: pathlib.Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _listed(root: pathlib.Path, classes: Mapping[str, list[pathlib.Path]], names: list[str]) -> Listed:
    files = [path for name in names for path in classes[name]]
    labels = [label for label, name in enumerate(names) for _ in classes[name]]
    return Listed(Encoded([path.relative_to(root).as_posix() for path in files], files), labels)


def _refuse_pairs(root: pathlib.Path, classes: Mapping[str, object]) -> None:
    if {name.lower() for name in classes} <= _PAIRED:
        raise DataError(
            f"expected folders named after classes in {root}, found {', '.join(sorted(classes))}: these hold "
            f"parts of one sample (pictures, masks, boxes), not classes. For another task: --task NAME."
        )


def _refuse_differing(root: pathlib.Path, found: Mapping[str, Mapping[str, list[pathlib.Path]]]) -> None:
    train = found["train"]
    for split, classes in found.items():
        missing, more = sorted(train.keys() - classes), sorted(classes.keys() - train)
        if missing or more:
            raise DataError(
                f"expected the same class folders in the training and the {split} set of {root}, found "
                f"{_told(more)} only in {split} and {_told(missing)} only in training. Rename or remove some."
            )
        empty = sorted(name for name, pictures in classes.items() if not pictures)
        if empty:
            raise DataError(
                f"expected pictures in every class folder of {root}, found none in {_told(empty)} ({split}). "
                f"Pictures end in {', '.join(sorted(SUFFIXES))}. Remove the folder, or add pictures."
            )


def _told(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "") if names else "none"
