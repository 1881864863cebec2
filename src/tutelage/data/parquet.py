"""Hugging Face parquet: one row a picture, with the bytes of the picture and its label."""

import json
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.errors import DataError, MissingExtra

from .encoded import Encoded
from .source import Listed, Source, from_encoded

_PICTURE = ("image", "img", "picture")
_LABEL = ("label", "labels", "fine_label", "target", "class")
_SPLITS = {"train": "train|training", "selection": "val|valid|validation|dev", "test": "test|testing"}


@dataclass(frozen=True)
class _Rows:
    pictures: Encoded
    labels: list[Any]
    classes: tuple[str, ...] | None


def parquet(root: pathlib.Path, **options: Any) -> Source | None:
    """Files with ``train``, ``validation`` or ``test`` in their name, in shards or whole, at any depth.

    Args:
        root: The folder, or a single file.
        options: For `open_encoded`.

    Returns:
        The data set; None if there is no parquet file. A picture is ``{bytes, path}`` in a column ``image``
        or ``img``, a label a number or a string in a column ``label`` or ``fine_label``; -1 or null is no
        label. Classes are those named in the schema.

    Raises:
        DataError: A column is missing, there is no training file, or the splits have other classes.
        MissingExtra: pyarrow is not installed.
    """
    files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    if not files:
        return None
    splits: dict[str, list[pathlib.Path]] = {}
    notes = []
    for file in files:
        split = "train" if len(files) == 1 else _split(file.relative_to(root))
        if split:
            splits.setdefault(split, []).append(file)
        else:
            notes.append(f"{file.name} belongs to no known split and is left out.")
    if "train" not in splits:
        raise DataError(
            f"expected a parquet file with 'train' in its name in {root}, found "
            f"{', '.join(file.name for file in files[:5])}. Rename the files after their split."
        )
    rows = {split: _read(splits[split]) for split in _SPLITS if split in splits}
    classes = _classes(root, rows)
    listed = {split: Listed(part.pictures, _numbers(root, part, classes)) for split, part in rows.items()}
    return from_encoded(f"{root.name}{'/' * root.is_dir()}", "parquet", listed, classes, notes, **options)


def _split(file: pathlib.Path) -> str | None:
    for part in reversed([*file.parts[:-1], file.stem]):
        for split, words in _SPLITS.items():
            if re.search(rf"(?<![a-z])({words})(?![a-z])", part.lower()):
                return split
    return None


def _read(files: list[pathlib.Path]) -> _Rows:
    names: list[str] = []
    contents: list[bytes | pathlib.Path] = []
    labels: list[Any] = []
    classes = None
    for file in files:
        table, picture, label = _table(file)
        for number, cell in enumerate(table.column(picture).to_pylist()):
            content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
            names.append(path or f"{file.name} row {number}")
            contents.append(content if isinstance(content, bytes) else b"")
        labels += table.column(label).to_pylist()
        classes = classes or _named(table.schema.metadata, label)
    return _Rows(Encoded(names, contents), labels, classes)


def _table(file: pathlib.Path) -> tuple[Any, str, str]:
    """The two columns of a file, and their names."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MissingExtra("parquet files need pyarrow: pip install 'tutelage[train]'") from error
    try:
        with ParquetFile(file) as opened:
            there = opened.schema_arrow.names
            picture, label = (next((name for name in known if name in there), None) for known in (_PICTURE, _LABEL))
            if picture is None or label is None:
                raise DataError(
                    f"expected columns such as 'image' and 'label' in {file}, found {', '.join(there)}. "
                    f"Known are {', '.join(_PICTURE)} for the picture and {', '.join(_LABEL)} for its class."
                )
            return opened.read(columns=[picture, label]), picture, label
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"expected a whole parquet file, found {file}: {error}. Fetch it again.") from error


def _named(metadata: Mapping[bytes, bytes] | None, column: str) -> tuple[str, ...] | None:
    """Class names from the schema, where Hugging Face's `datasets` writes them."""
    try:
        told = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, told)) or None


def _classes(root: pathlib.Path, rows: Mapping[str, _Rows]) -> tuple[str, ...]:
    train = rows["train"]
    for split, part in rows.items():
        if part.classes != train.classes:
            raise DataError(
                f"expected the same class names in all splits of {root}, found {train.classes} in training "
                f"and {part.classes} in {split}."
            )
    if train.classes:
        return train.classes
    seen = {label for label in train.labels if label is not None}
    if all(isinstance(label, str) for label in seen):
        return tuple(sorted(seen))
    return tuple(map(str, range(max((label for label in seen if isinstance(label, int)), default=-1) + 1)))


def _numbers(root: pathlib.Path, part: _Rows, classes: tuple[str, ...]) -> list[int]:
    number = {name: n for n, name in enumerate(classes)}
    labels = [-1 if label is None else number.get(label, label) for label in part.labels]
    strange = next((label for label in labels if not isinstance(label, int)), None)
    if strange is not None:
        raise DataError(
            f"expected labels that are numbers or one of {', '.join(classes[:8])} in {root}, found {strange!r}."
        )
    return labels
