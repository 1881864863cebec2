"""Pictures with boxes: what a reader of one layout found, checked, brought to one shape, and padded to tensors."""

import hashlib
import math
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import DataError

from .augment_boxes import NO_BOX, AugmentBoxes
from .encoded import Encoded, in_threads, inside, open_encoded, size_of, told_of_turning
from .slices import Slice
from .source import Source, refuse_shared

STEP = 32
"""Pictures are given sides that are multiples of this: detectors would pad them to it themselves."""

UNEQUAL = 512
"""Longest side that pictures of different sizes are brought to by default."""

Raw = tuple[float, float, float, float, str]
"""A box as a file has it: left, top, right, bottom in pixels, and the name of its class."""


@dataclass
class Annotated:
    """One part of a data set as a reader found it.

    Args:
        files: The pictures.
        boxes: The boxes of each.
        sizes: Height and width of the pictures that were annotated, None where that is not said; or empty.
    """

    files: list[pathlib.Path] = field(default_factory=list)
    boxes: list[list[Raw]] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)


class Boxes:
    """The boxes of pictures, padded to one shape.

    Args:
        target: ``[N, M, 5]``: left, top, right, bottom in pixels and the number of the class; class `NO_BOX` pads.
    """

    augmentation = AugmentBoxes

    def __init__(self, target: Tensor) -> None:
        self._target = target

    def __len__(self) -> int:
        return len(self._target)

    def gather(self, positions: Tensor) -> Tensor:
        """The boxes at these positions, ``[n, M, 5]``."""
        return self._target[positions]

    def digest(self, positions: Tensor) -> bytes:
        """A hash of the boxes."""
        return hashlib.sha256(self._target[positions].numpy().data).digest()


def pad(boxes: Sequence[Tensor], most: int | None = None) -> Tensor:
    """Boxes of several pictures as one tensor.

    Args:
        boxes: ``[n, 5]`` each: left, top, right, bottom, class.
        most: Rows to pad to; by default as many as the fullest picture has, at least 1.

    Returns:
        ``[N, M, 5]``; rows that hold no box are 0 with the class `NO_BOX`.

    Example:
        >>> pad([torch.tensor([[0.0, 0.0, 4.0, 2.0, 1.0]]), torch.zeros(0, 5)])[:, 0]
        tensor([[ 0.,  0.,  4.,  2.,  1.],
                [ 0.,  0.,  0.,  0., -1.]])
    """
    most = max(1, *map(len, boxes)) if most is None else most
    padded = torch.zeros(len(boxes), most, 5)
    padded[:, :, 4] = NO_BOX
    for row, found in zip(padded, boxes, strict=True):
        row[: len(found)] = found
    return padded


def from_annotated(
    name: str,
    layout: str,
    parts: Mapping[str, Annotated],
    classes: Sequence[str],
    notes: Sequence[str] = (),
    *,
    image_size: int | tuple[int, int] | None = None,
    in_memory: bool | None = None,
    max_bad: int | float = 0.01,
) -> Source:
    """Check the boxes, bring all pictures to one shape, and the boxes with them.

    Pictures keep their proportions: they are scaled until they fit and padded with black at the right and below.

    Args:
        name: As for `Source`.
        layout: As for `Source`.
        parts: What the reader found.
        classes: Names of the classes.
        notes: As for `Source`.
        image_size: Height and width, or the longest side, to bring pictures to; by default the size they have, or
            a longest side of `UNEQUAL` where sizes differ. Sides are rounded up to multiples of `STEP`.
        in_memory: Whether to hold the pictures decoded; by default where that takes little memory.
        max_bad: How many pictures may be unreadable: a number, or a share if a float.

    Raises:
        DataError: A box lies outside its picture, is no box, or has a class that is not known; a picture has another
            size than the one that was annotated, or is in two parts; there is no picture or no box to learn from.
    """
    files = [file for part in parts.values() for file in part.files]
    if not parts["train"].files:
        raise DataError(f"expected pictures in the training set of {name}, found none.")
    refuse_shared({part: members.files for part, members in parts.items()})
    found, bad = in_threads(lambda number: size_of(files[number]), range(len(files)))
    _refuse_resized(files, found, [size for part in parts.values() for size in part.sizes or [None] * len(part.files)])
    shape = common_shape(set(found.values()) or {(STEP, STEP)}, image_size)
    encoded = Encoded([file.name for file in files], files)
    opened = open_encoded(encoded, image_size=shape, in_memory=in_memory, max_bad=max_bad, bring=inside)
    census = Census(tuple(classes))
    ready: list[Tensor] = []
    for number, raw in enumerate(raw for part in parts.values() for raw in part.boxes):
        size = found.get(number)
        boxes = torch.zeros(0, 5) if number in bad or size is None else census.take(files[number].name, raw, size)
        ready.append(boxes if size is None else scaled(boxes, size, shape))
    if not census.counts:
        raise DataError(f"expected boxes in {name}, found none in {len(files):,} pictures.")
    index = torch.cat([torch.arange(len(part.files)) for part in parts.values()])
    whole = Slice(opened.pictures, torch.zeros(len(files)), classes, truth=Boxes(pad(ready)), index=index)
    cut, first = {}, 0
    for part, members in parts.items():
        here = torch.arange(first, first + len(members.files))
        cut[part], first = whole.select(here[opened.readable[here]]), first + len(here)
    return Source(name, layout, cut, [*notes, *census.notes(), *opened.notes, *brought(set(found.values()), shape)])


def _refuse_resized(
    files: Sequence[pathlib.Path], found: Mapping[int, tuple[int, int]], stated: Sequence[tuple[int, int] | None]
) -> None:
    """Raise a `DataError` where pictures are not of the size for which their boxes were drawn."""
    if differ := [(number, size) for number, size in found.items() if stated[number] not in (None, size)]:
        number, (high, wide) = differ[0]
        old = "x".join(map(str, stated[number] or ()))
        raise DataError(
            f"expected pictures of the height and width that their annotations state, found {len(differ):,} that are "
            f"not: {files[number].name} is {high}x{wide}, annotated as {old}. Bring back the pictures that were "
            f"annotated, or scale the boxes and mend the sizes.{told_of_turning((high, wide), stated[number])}"
        )


class Census:
    """Takes boxes in, and counts what was done to them.

    Args:
        classes: Names of the classes.

    Raises:
        DataError: Two have one name.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.numbers = {name: number for number, name in enumerate(classes)}
        if twice := [name for name, count in Counter(classes).items() if count > 1]:
            raise DataError(f"expected classes of different names, found {', '.join(map(repr, twice))} more than once.")
        self.counts: Counter[str] = Counter()
        self.clipped = self.flat = self.empty = 0

    def take(self, where: str, raw: Sequence[Raw], size: tuple[int, int]) -> Tensor:
        """The boxes of one picture, clipped to it, ``[n, 5]``; those without an area are left out.

        Args:
            where: What people call the picture.
            raw: Its boxes as they were found.
            size: Its height and width.

        Raises:
            DataError: A box lies outside the picture, is not finite, or has a class that is not known.
        """
        height, width = size
        kept = []
        for left, top, right, bottom, name in raw:
            box = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
            if name not in self.numbers:
                raise DataError(
                    f"{where}: expected boxes of the classes {', '.join(list(self.numbers)[:12])}; found {name!r}. "
                    "Mend the annotation, or bring a picture of it into the training set."
                )
            if not all(map(math.isfinite, (left, top, right, bottom))):
                raise DataError(f"{where}: expected four finite numbers for each box, found {box}. Mend it.")
            if right <= left or bottom <= top:
                self.flat += 1
                continue
            inner = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
            if inner[2] <= inner[0] or inner[3] <= inner[1]:
                raise DataError(
                    f"{where}: expected boxes inside the picture of {width}x{height}, found {box} of {name!r} "
                    "wholly outside. Was the picture resized after it was annotated? Mend or remove the box."
                )
            self.clipped += inner != (left, top, right, bottom)
            self.counts[name] += 1
            kept.append([*inner, float(self.numbers[name])])
        self.empty += not kept
        return torch.tensor(kept).reshape(-1, 5)

    def notes(self) -> list[str]:
        """What was counted, for people."""
        told = [f"boxes: {', '.join(f'{count:,} {name}' for name, count in self.counts.most_common(12))}."]
        if self.flat:
            told.append(f"{self.flat:,} boxes without an area are left out.")
        if self.clipped:
            told.append(f"{self.clipped:,} boxes were cut at the border of their picture.")
        if self.empty:
            told.append(f"{self.empty:,} pictures hold no box: they are kept as background.")
        return told


def common_shape(sizes: set[tuple[int, int]], image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width that all pictures are brought to."""
    if isinstance(image_size, tuple):
        height, width = image_size
    else:
        longest = image_size
        if longest is None:
            longest = max(max(size) for size in sizes) if len(sizes) == 1 else UNEQUAL
        scaled = [tuple(side * longest / max(size) for side in size) for size in sizes]
        height, width = (math.ceil(max(sides) - 1e-6) for sides in zip(*scaled, strict=True))
    return tuple(STEP * math.ceil(side / STEP) for side in (height, width))  # type: ignore[return-value]


def brought(sizes: set[tuple[int, int]], shape: tuple[int, int]) -> list[str]:
    """A note where pictures of several sizes are brought to one shape."""
    if len(sizes) == 1:
        return []
    what = f"pictures have {len(sizes):,} sizes: each is scaled into {shape[0]}x{shape[1]} and padded"
    return [f"{what}; image_size sets another size."]


def scaled(boxes: Tensor, size: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Boxes where `inside` puts their picture."""
    scale = min(shape[0] / size[0], shape[1] / size[1])
    high, wide = (round(side * scale) / side for side in size)
    return boxes * torch.tensor([wide, high, wide, high, 1.0])


def joined(listed: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes of the training part, in alphabetical order."""
    return tuple(sorted({box[4] for raw in listed["train"].boxes for box in raw}))
