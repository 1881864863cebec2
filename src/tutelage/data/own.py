"""Your own `torch.utils.data.Dataset` of (picture, label)."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tutelage.errors import DataError, close_names
from tutelage.foreign import called

from .encoded import HELD, Shape, fit, from_pil
from .slices import Held, Pictures, Slice, refuse_not_finite
from .source import Source

PARTS = {
    "train": "train",
    "selection": "selection",
    "validation": "selection",
    "val": "selection",
    "test": "test",
}


class Asked:
    """The pictures of a data set that is asked for them each time.

    Args:
        dataset: Gives (picture, label).
        size: Height and width to bring the pictures to; None leaves them as they are.
    """

    in_memory = False

    def __init__(self, dataset: Any, size: tuple[int, int] | None) -> None:
        self._dataset, self._size = dataset, size
        first = picture_of(sample_of(dataset, 0), 0, size)
        self.shape: Shape = (first.shape[0], first.shape[1], first.shape[2])

    def __len__(self) -> int:
        return len(self._dataset)

    def gather(self, positions: Tensor) -> Tensor:
        """The pictures at these positions."""
        if not len(positions):
            return torch.empty(0, *self.shape, dtype=torch.uint8)
        pictures = [picture_of(sample_of(self._dataset, number), number, self._size) for number in positions.tolist()]
        for number, picture in zip(positions.tolist(), pictures, strict=True):
            refuse_shape(picture, number, self.shape)
        stacked = torch.stack(pictures)
        if stacked.is_floating_point():
            refuse_not_finite(stacked)
        return stacked

    def digest(self, positions: Tensor) -> bytes:
        """A hash of the data set's type and of up to 64 pictures, evenly spaced."""
        kind = type(self._dataset)
        told = hashlib.sha256(f"{kind.__module__}.{kind.__qualname__} {self.shape} {positions.tolist()}".encode())
        told.update(self.gather(positions[:: max(1, len(positions) // 64)][:64]).numpy().tobytes())
        return told.digest()


def own(
    datasets: Dataset[Any] | DataLoader[Any] | Mapping[str, Dataset[Any] | DataLoader[Any]],
    *,
    name: str | None = None,
    image_size: int | tuple[int, int] | None,
    in_memory: bool | None,
) -> Source:
    """A data set, or one for each split. Of a loader its data set is taken, for batches and order are ours.

    Each sample is (picture, label): the picture a tensor ``[C, H, W]`` or ``[H, W]`` (uint8, or float in
    [0, 1]), a NumPy array ``[H, W, C]`` or ``[H, W]``, or a Pillow image; the label a class number, -1 if it
    is not known. Pictures that fit in memory are read once: leave random transforms to `Augment`. Class names
    are read from the attribute ``classes``, labels of pictures that do not fit from ``targets``, if up to 64 samples,
    drawn at random, say the same; else every sample is asked for its label.

    Args:
        datasets: The training set; or a mapping with ``"train"`` and, if there are any, ``"validation"`` and
            ``"test"``.
        name: What to call it.
        image_size: Height and width to bring uint8 pictures to.
        in_memory: Whether to hold the pictures; by default if that takes less than `HELD` bytes.

    Returns:
        The data set.

    Raises:
        DataError: A sample is not such a pair, pictures differ in shape, ``classes`` names none, or there is no
            training set.
    """
    given, notes = by_part(datasets)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    read = {PARTS[part]: _read(dataset, size, in_memory) for part, dataset in given.items()}
    classes = _classes(given, torch.cat([labels for _, labels in read.values()]))
    parts = {part: Slice(pictures, labels, classes) for part, (pictures, labels) in read.items()}
    shape = parts["train"].shape
    for part, members in parts.items():
        if members.shape != shape:
            raise DataError(
                f"expected pictures of one shape, found {shape} in train and {members.shape} in {part}. "
                f"Pass image_size, or make them alike."
            )
    kind = type(given["train"]).__name__
    return Source(name or kind, "your own data set", parts, notes + out_of_range(parts["train"]))


def by_part(datasets: Any) -> tuple[dict[str, Any], list[str]]:
    """The data sets by the split they hold, and what people should know, a line each.

    Args:
        datasets: A data set or loader, or a mapping of splits to such.

    Raises:
        DataError: There is no training set, a split is not known or there twice, or one of them is no data set.
    """
    given = datasets if isinstance(datasets, Mapping) else {"train": datasets}
    loaders = [part for part, dataset in given.items() if isinstance(dataset, DataLoader)]
    given = {part: dataset.dataset if isinstance(dataset, DataLoader) else dataset for part, dataset in given.items()}
    for part in given:
        if part not in PARTS:
            raise DataError(
                f"expected the splits train, validation and test, found {part!r}. {close_names(part, PARTS)}"
            )
        twin = next(other for other in given if PARTS[other] == PARTS[part])
        if twin != part:
            raise DataError(
                f"expected one data set for each split, found {twin!r} and {part!r}, which are two words for one. "
                "Leave one out."
            )
    if "train" not in given:
        raise DataError(f"expected a 'train' data set, found {', '.join(map(repr, given)) or 'nothing'}.")
    for part, dataset in given.items():
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(
                f"expected a {part} data set with a length and numbered samples, found {type(dataset).__name__}."
            )
        if len(dataset) == 0:
            raise DataError(f"expected samples in the {part} data set, found none.")
    return given, [f"of the {part} loader its data set is taken: batches and order are ours." for part in loaders]


def out_of_range(train: Slice) -> list[str]:
    """A note if float pictures, judged by some of them, do not lie in [0, 1]."""
    some = train.gather(torch.arange(len(train))[:: max(1, len(train) // 64)])
    if not some.is_floating_point() or (some.min() >= 0 and some.max() <= 1):
        return []
    return [
        f"pictures are floats from {some.min():.3g} to {some.max():.3g}, not in 0 to 1. Models normalise by "
        f"themselves: give pictures that are not normalised yet."
    ]


def _read(dataset: Any, size: tuple[int, int] | None, in_memory: bool | None) -> tuple[Pictures, Tensor]:
    asked = Asked(dataset, size)
    first = asked.gather(torch.tensor([0]))
    held = first.nbytes * len(dataset) < HELD if in_memory is None else in_memory
    if not held and (stated := _stated(dataset)) is not None:
        return asked, stated
    pictures = torch.empty(len(dataset) if held else 0, *asked.shape, dtype=first.dtype)
    labels = torch.empty(len(dataset), dtype=torch.int64)
    for number in range(len(dataset)):
        sample = sample_of(dataset, number)
        picture = picture_of(sample, number, size)
        refuse_shape(picture, number, asked.shape)
        labels[number] = _label(sample[1], number)
        if held:
            pictures[number] = picture
    return (Held(pictures) if held else asked), labels


def _stated(dataset: Any) -> Tensor | None:
    """The labels in ``targets``; None where there are none, or some samples say others."""
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != len(dataset):
        return None
    labels = torch.tensor([_label(label, number) for number, label in enumerate(targets)])
    # Evenly spaced ones may all be of one class.
    some = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:64].tolist()
    alike = all(_label(sample_of(dataset, number)[1], number) == int(labels[number]) for number in some)
    return labels if alike else None


def sample_of(dataset: Any, number: int) -> Any:
    """A sample of the user's own data set; raises a `DataError` where that fails."""
    return called(f"sample {number} of {type(dataset).__name__}", lambda: dataset[number], DataError)


def picture_of(sample: Any, number: int, size: tuple[int, int] | None) -> Tensor:
    """The picture of a sample, uint8 or float32 ``[C, H, W]``."""
    if not isinstance(sample, (tuple, list)) or len(sample) < 2:
        raise DataError(f"expected samples (picture, label), found {type(sample).__name__} at sample {number}.")
    given = sample[0]
    if hasattr(given, "convert"):
        given = from_pil(given)
    elif not isinstance(given, Tensor):
        array = torch.as_tensor(given)
        given = array.permute(2, 0, 1) if array.ndim == 3 else array
    picture: Tensor = given[None] if given.ndim == 2 else given
    if picture.ndim != 3 or not (picture.dtype == torch.uint8 or picture.is_floating_point()):
        raise DataError(
            f"expected a picture as uint8 or float [C, H, W], found {picture.dtype} {list(picture.shape)} at "
            f"sample {number}. Convert it in your data set."
        )
    if picture.dtype != torch.uint8:
        return picture.float()
    return fit(picture, (len(picture), *size)) if size else picture


def refuse_shape(picture: Tensor, number: int, shape: Shape) -> None:
    """Raise a `DataError` where a picture has another shape than the first."""
    if picture.shape != shape:
        raise DataError(
            f"expected pictures of one shape, found {shape} at sample 0 and {tuple(picture.shape)} at sample "
            f"{number}. Pass image_size, or make them alike in your data set."
        )


def _label(given: Any, number: int) -> int:
    value = given.item() if isinstance(given, Tensor) and given.numel() == 1 else given
    try:
        label = int(value)
        if label == value:
            return label
    except (TypeError, ValueError):
        pass
    raise DataError(f"expected a class number as label, found {given!r} at sample {number}.")


def _classes(given: Mapping[str, Any], labels: Tensor) -> tuple[str, ...]:
    named = {part: _class_names(part, dataset) for part, dataset in given.items()}
    train = named["train"]
    for part, names in named.items():
        if names and train and names != train:
            raise DataError(
                f"expected the same classes in all splits, found {', '.join(train[:8])} in train and "
                f"{', '.join(names[:8])} in {part}."
            )
    return train or tuple(str(label) for label in range(int(labels.max()) + 1))


def _class_names(part: str, dataset: Any) -> tuple[str, ...]:
    """What a data set calls its classes; empty where it does not say."""
    given: Any = getattr(dataset, "classes", None)
    names = given.tolist() if hasattr(given, "tolist") else given
    if names is None:
        return ()
    if isinstance(names, str | set | frozenset) or not isinstance(names, Iterable):
        raise DataError(
            f"expected a list of names in the attribute classes of the {part} data set, in the order of their numbers, "
            f"found {type(given).__name__}. Make it one, or leave it out."
        )
    return tuple(map(str, names))
