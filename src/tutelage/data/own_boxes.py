"""Your own `torch.utils.data.Dataset` of (picture, boxes)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tutelage.errors import DataError

from .boxes import Boxes, Census, Raw, brought, common_shape, pad, scaled
from .encoded import HELD, Shape, inside
from .own import PARTS, Asked, by_part, out_of_range, picture_of, sample_of
from .slices import UNLABELLED, Held, Slice, refuse_not_finite
from .source import Source


class Whole(Asked):
    """Pictures of a data set that is asked for them each time, brought whole to one shape.

    Args:
        dataset: Gives (picture, boxes).
        shape: Channels, height and width.
    """

    def __init__(self, dataset: Any, shape: Shape) -> None:
        self._dataset, self._size, self.shape = dataset, None, shape

    def gather(self, positions: Tensor) -> Tensor:
        """The pictures at these positions."""
        if not len(positions):
            return torch.empty(0, *self.shape, dtype=torch.uint8)
        pictures = [picture_of(sample_of(self._dataset, number), number, None) for number in positions.tolist()]
        return _brought(pictures, self.shape)


@dataclass
class _Read:
    """Of each sample of a data set its shape, its boxes ``[n, 5]`` (None if not known) and its picture, if held."""

    held: bool
    shapes: list[Shape] = field(default_factory=list)
    boxes: list[Tensor | None] = field(default_factory=list)
    pictures: list[Tensor] = field(default_factory=list)


def own_boxes(
    datasets: Dataset[Any] | DataLoader[Any] | Mapping[str, Dataset[Any] | DataLoader[Any]],
    *,
    name: str | None = None,
    image_size: int | tuple[int, int] | None,
    in_memory: bool | None,
) -> Source:
    """A data set, or one for each split. Of a loader its data set is taken, for batches and order are ours.

    Each sample is (picture, boxes): the picture as for `own`, grey or of 3 channels, and of any size; the boxes are

    - a tensor ``[n, 5]`` of left, top, right, bottom in pixels and the number of the class, counted from 0; or
    - as torchvision has them, a mapping with ``"boxes"`` ``[n, 4]`` and ``"labels"`` ``[n]``, which are counted from 1,
      for 0 is the background there; or
    - None where it is not known what the picture shows. Where it shows nothing there is no row.

    Names of the classes are read from the attribute ``classes``. Pictures that fit in memory are read once: leave
    random transforms to `AugmentBoxes`.

    Args:
        datasets: The training set; or a mapping with ``"train"`` and, if there are any, ``"validation"`` and
            ``"test"``.
        name: What to call it.
        image_size: As for `from_annotated`.
        in_memory: Whether to hold the pictures; by default if that takes less than `HELD` bytes.

    Returns:
        The data set.

    Raises:
        DataError: A sample is no such pair, a box is none or of a class that is not known, or there is no box at all.
    """
    given, notes = by_part(datasets)
    read = {part: _read(dataset, in_memory) for part, dataset in given.items()}
    classes = _classes(given["train"], read.values())
    sizes = {(shape[1], shape[2]) for each in read.values() for shape in each.shapes}
    high, wide = common_shape(sizes, image_size)
    shape = (max(shape[0] for each in read.values() for shape in each.shapes), high, wide)
    census = Census(classes)
    ready = {part: _ready(part, each, census, classes, (high, wide)) for part, each in read.items()}
    if not census.counts:
        raise DataError("expected boxes in your data set, found none. Give (picture, boxes [n, 5]).")
    most = max(1, *(len(boxes) for part in ready.values() for boxes in part))
    parts = {}
    for part, each in read.items():
        pictures = Held(_brought(each.pictures, shape)) if each.held else Whole(given[part], shape)
        known = torch.tensor([UNLABELLED if boxes is None else 0 for boxes in each.boxes])
        parts[PARTS[part]] = Slice(pictures, known, classes, truth=Boxes(pad(ready[part], most)))
    told = [*notes, *census.notes(), *brought(sizes, (high, wide)), *out_of_range(parts["train"])]
    return Source(name or type(given["train"]).__name__, "your own data set of boxes", parts, told)


def gives_boxes(source: Any) -> bool:
    """Whether the first sample of a data set, or of the training set among several, is a picture with boxes."""
    given: Any = source.get("train") if isinstance(source, Mapping) else source
    given = given.dataset if isinstance(given, DataLoader) else given
    try:
        target = given[0][1]
        return {"boxes", "labels"} <= set(target) if isinstance(target, Mapping) else tuple(target.shape[1:]) == (5,)
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError):
        return False


def _read(dataset: Any, in_memory: bool | None) -> _Read:
    """Every sample, once."""
    first = picture_of(sample_of(dataset, 0), 0, None)
    read = _Read(first.nbytes * len(dataset) < HELD if in_memory is None else in_memory)
    for number in range(len(dataset)):
        sample = sample_of(dataset, number)
        picture = picture_of(sample, number, None)
        if len(picture) not in (1, 3):
            raise DataError(
                f"expected pictures of 1 or 3 channels, found {list(picture.shape)} at sample {number}. Give [C, H, W]."
            )
        read.shapes.append((picture.shape[0], picture.shape[1], picture.shape[2]))
        read.boxes.append(_boxes(sample[1], number))
        if read.held:
            read.pictures.append(picture)
    number = next((n for n, boxes in enumerate(read.boxes) if boxes is not None and len(boxes)), 0)
    if not read.held and not _same(read.boxes[number], _boxes(sample_of(dataset, number)[1], number)):
        raise DataError(
            f"expected the same boxes whenever a sample is asked for, found others at sample {number}. Leave random "
            "transforms to data.augment, or hold the pictures (data.in_memory=true): each is then read once."
        )
    return read


def _boxes(target: Any, number: int) -> Tensor | None:
    """Boxes ``[n, 5]`` with classes from 0, from what a data set gives beside a picture."""
    if target is None:
        return None
    wanted = (
        "expected boxes [n, 5] (left, top, right, bottom, class from 0), or {'boxes': [n, 4], 'labels': [n]} with "
        "labels from 1"
    )
    try:
        if not isinstance(target, Mapping):
            rows = _numbers(target)
        elif not {"boxes", "labels"} <= set(target):
            raise DataError(f"{wanted}; found the keys {', '.join(map(str, target))} at sample {number}.")
        else:
            layout = getattr(getattr(target["boxes"], "format", None), "name", "XYXY")
            if layout != "XYXY":
                raise DataError(f"expected boxes as XYXY, found {layout} at sample {number}. Convert them.")
            corners, labels = _numbers(target["boxes"]).reshape(-1, 4), _numbers(target["labels"]).reshape(-1, 1)
            if len(labels) and labels.min() < 1:
                raise DataError(
                    f"expected labels from 1, for 0 is the background in such a mapping; found {labels.min():g} at "
                    f"sample {number}. Count from 1, or give boxes [n, 5] with classes from 0."
                )
            rows = torch.cat([corners, labels - 1], dim=1)
    except DataError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{wanted}; found something else at sample {number} ({error}).") from error
    rows = rows.reshape(0, 5) if not rows.numel() else rows
    if rows.dim() != 2 or rows.shape[1] != 5:
        raise DataError(f"{wanted}; found {list(rows.shape)} at sample {number}.")
    return rows


def _numbers(given: Any) -> Tensor:
    return torch.as_tensor(given).as_subclass(Tensor).detach().double()


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return (one is None) == (other is None) and (one is None or other is None or torch.equal(one, other))


def _classes(dataset: Any, parts: Iterable[_Read]) -> tuple[str, ...]:
    """Names of the classes: those the training set states, else numbers, of all splits."""
    named = tuple(map(str, getattr(dataset, "classes", None) or ()))
    if named and named[0].strip("_").lower() == "background":
        named = named[1:]
    every = (rows for read in parts for rows in read.boxes if rows is not None and len(rows))
    highest = max((int(rows[:, 4].nan_to_num(0).max()) for rows in every), default=-1)
    return named or tuple(str(number) for number in range(highest + 1))


def _ready(part: str, read: _Read, census: Census, classes: Sequence[str], shape: tuple[int, int]) -> list[Tensor]:
    """The boxes of a part where their pictures are brought to, checked."""
    ready = []
    for number, (rows, (_, high, wide)) in enumerate(zip(read.boxes, read.shapes, strict=True)):
        where = f"sample {number} of {part}"
        raw: list[Raw] = []
        for left, top, right, bottom, label in [] if rows is None else rows.tolist():
            if label not in range(len(classes)):
                raise DataError(
                    f"{where}: expected boxes of the {len(classes)} classes 0 to {len(classes) - 1} "
                    f"({', '.join(classes[:12])}), found {label:g}. Mend it, or name the class in `classes`."
                )
            raw.append((left, top, right, bottom, classes[int(label)]))
        ready.append(scaled(census.take(where, raw, (high, wide)), (high, wide), shape))
    return ready


def _brought(pictures: Sequence[Tensor], shape: Shape) -> Tensor:
    """Pictures of one type, each brought whole to a shape."""
    if len(kinds := {picture.dtype for picture in pictures}) > 1:
        raise DataError(f"expected pictures of one type, found {' and '.join(sorted(map(str, kinds)))}. Convert them.")
    stacked = torch.stack([inside(picture, shape) for picture in pictures])
    if stacked.is_floating_point():
        refuse_not_finite(stacked)
    return stacked
