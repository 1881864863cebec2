"""What a reader of one layout hands over: the parts a data set brings, before anything is cut."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tutelage.errors import DataError

from .encoded import Encoded, open_encoded
from .slices import Slice


@dataclass(frozen=True)
class Source:
    """A data set as it was found.

    Args:
        name: What the user called it.
        layout: What was recognised, for people.
        parts: ``"train"``, and ``"selection"`` and ``"test"`` where the data set brings them.
        notes: What people should know, a line each.
        facts: As for `Splits`.
    """

    name: str
    layout: str
    parts: Mapping[str, Slice]
    notes: list[str] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """One part of a data set of encoded pictures.

    Args:
        encoded: The pictures.
        labels: The class of each; -1 where it is not known.
    """

    encoded: Encoded
    labels: Sequence[int]


def from_encoded(
    name: str,
    layout: str,
    listed: Mapping[str, Listed],
    classes: Sequence[str],
    notes: Sequence[str] = (),
    **options: Any,
) -> Source:
    """Open the pictures of all parts together, so that they get one shape, and leave out the unreadable.

    Args:
        name: As for `Source`.
        layout: As for `Source`.
        listed: The parts, as for `Source`.
        classes: Names of the classes.
        notes: As for `Source`.
        options: For `open_encoded`.

    Returns:
        The source. An unreadable picture keeps its number: the others are numbered as if it were there.

    Raises:
        DataError: There is no training picture, or a label is none of the classes.
    """
    if not listed["train"].labels:
        raise DataError(f"expected pictures in the training set of {name}, found none.")
    encoded = Encoded(
        [name for part in listed.values() for name in part.encoded.names],
        [content for part in listed.values() for content in part.encoded.contents],
    )
    labels = torch.tensor([label for part in listed.values() for label in part.labels])
    index = torch.cat([torch.arange(len(part.labels)) for part in listed.values()])
    opened = open_encoded(encoded, **options)
    whole = Slice(opened.pictures, labels, classes, index=index)
    parts, first = {}, 0
    for part, members in listed.items():
        here = torch.arange(first, first + len(members.labels))
        parts[part], first = whole.select(here[opened.readable[here]]), first + len(here)
    return Source(name, layout, parts, [*notes, *opened.notes])


def refuse_shared(parts: Mapping[str, Sequence[pathlib.Path]]) -> None:
    """Refuse a picture that lies in two parts.

    Raises:
        DataError: There is one.
    """
    where: dict[pathlib.Path, str] = {}
    for part, files in parts.items():
        if shared := [file for file in files if file in where]:
            raise DataError(
                f"expected parts that share no picture, found {len(shared):,} that are in two: {shared[0].name} is in "
                f"{where[shared[0]]} and in {part}. Strike them from one."
            )
        where |= dict.fromkeys(files, part)
