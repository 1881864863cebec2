"""Slices of a data set: pictures, their truth, and the number of each sample in the set it came from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tutelage.errors import DataError

from .augment import Augment, Augmentation

UNLABELLED = -1
"""The label of a sample whose truth is not known."""


class Pictures(Protocol):
    """Where the pictures of a slice come from; all of them have one shape."""

    shape: tuple[int, int, int]
    """Channels, height and width of each."""
    in_memory: bool
    """Whether `gather` only copies."""

    def __len__(self) -> int:
        """How many there are."""

    def gather(self, positions: Tensor) -> Tensor:
        """The pictures at these positions, ``[n, C, H, W]``, uint8 or float32."""

    def digest(self, positions: Tensor) -> bytes:
        """A hash of these pictures, in this order."""


class Truth(Protocol):
    """Where the truths of a slice come from if each is more than a class: masks, boxes, pictures."""

    @property
    def augmentation(self) -> type[Augmentation]:
        """What makes views of a picture and its truth together."""

    def __len__(self) -> int:
        """How many there are."""

    def gather(self, positions: Tensor) -> Tensor:
        """The truths at these positions, ``[n, ...]``; lists of any length are padded to one shape."""

    def digest(self, positions: Tensor) -> bytes:
        """A hash of these truths, in this order."""


class Held:
    """Pictures in memory.

    Args:
        pictures: ``[N, C, H, W]``, uint8, or float32 in [0, 1].

    Raises:
        DataError: Another shape or type, or a float picture that is not finite.
    """

    in_memory = True

    def __init__(self, pictures: Tensor) -> None:
        if pictures.ndim != 4 or pictures.dtype not in (torch.uint8, torch.float32):
            raise DataError(
                f"expected pictures as a uint8 or float32 tensor [N, C, H, W], found {pictures.dtype} "
                f"{list(pictures.shape)}. Convert them first."
            )
        if pictures.is_floating_point():
            refuse_not_finite(pictures)
        self._pictures = pictures
        self.shape: tuple[int, int, int] = (pictures.shape[1], pictures.shape[2], pictures.shape[3])

    def __len__(self) -> int:
        return len(self._pictures)

    def gather(self, positions: Tensor) -> Tensor:
        """The pictures at these positions, as a copy."""
        return self._pictures[positions]

    def digest(self, positions: Tensor) -> bytes:
        """A hash of type, shape and values."""
        told = hashlib.sha256(f"{self._pictures.dtype} {self.shape}".encode())
        for first in range(0, len(positions), 4096):
            told.update(self._pictures[positions[first : first + 4096]].numpy().data)
        return told.digest()


def refuse_not_finite(pictures: Tensor) -> None:
    """Raise a `DataError` that names the first picture with a NaN or an infinity, if there is one.

    Args:
        pictures: Float, ``[N, C, H, W]``.

    Raises:
        DataError: There is one.
    """
    broken = [
        first + int(n)
        for first in range(0, len(pictures), 4096)
        for n in (~pictures[first : first + 4096].isfinite().flatten(1).all(dim=1)).nonzero().flatten()
    ]
    if broken:
        raise DataError(
            f"expected finite pictures, found NaN or infinity in {len(broken):,} of {len(pictures):,}, the "
            f"first is number {broken[0]}. Mend or leave out these pictures."
        )


class Slice(Dataset[dict[str, Tensor]]):
    """Part of a data set. Indexing it gives one sample as the dict a batch is made of.

    Args:
        pictures: ``[N, C, H, W]``, uint8 or float32; or any source of `Pictures`.
        labels: Class of each sample, int64 ``[N]``; -1 where it is not known. Beside a `truth`: 0 where that is known.
        classes: Names of the classes; empty if there are none.
        truth: The truth of each sample, where it is more than a class.
        index: Number of each sample in the training or test set it came from, int64 ``[N]``; by default
            0 to N - 1.
        blocks: Number of each sample's block, int64 ``[N]``, where samples depend on each other, such as the frames
            of a video; None where they do not.

    Raises:
        DataError: Lengths differ, or a label lies outside the classes.

    Example:
        >>> pictures, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, -1])
        >>> slice = Slice(pictures, labels, classes=("cat", "dog"))
        >>> slice.select(torch.tensor([2, 0])).index, slice.labelled
        (tensor([2, 0]), tensor([ True,  True, False]))
    """

    ragged = False
    """Whether whole pictures differ in size, and so are answered one by one."""

    def __init__(
        self,
        pictures: Tensor | Pictures,
        labels: Tensor,
        classes: Sequence[str],
        *,
        truth: Truth | None = None,
        index: Tensor | None = None,
        blocks: Tensor | None = None,
    ) -> None:
        self._pictures: Pictures = Held(pictures) if isinstance(pictures, Tensor) else pictures
        self._positions = torch.arange(len(self._pictures))
        self.labels = labels.long()
        self.index = torch.arange(len(labels)) if index is None else index.long()
        self.classes, self.blocks, self._truth = tuple(classes), blocks, truth
        truths = len(self.labels if truth is None else truth)
        if not len(self._pictures) == len(self.labels) == len(self.index) == truths:
            raise DataError(
                f"expected a label and an index for each picture, found {len(self._pictures):,} pictures, "
                f"{truths:,} labels and {len(self.index):,} indices."
            )
        most = len(self.classes) if truth is None else 1
        wrong = ((self.labels < UNLABELLED) | (self.labels >= most)).nonzero().flatten()
        if len(wrong):
            label, sample = int(self.labels[wrong[0]]), int(self.index[wrong[0]])
            raise DataError(
                f"expected labels 0 to {len(self.classes) - 1} (one of the classes), or -1 for none; "
                f"found {label} at sample {sample}, {len(wrong):,} such in all. "
                f"Mend the labels or the list of classes."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.batch(torch.tensor([range(len(self))[position]])).items()}

    def batch(
        self, positions: Tensor, augment: Augmentation | None = None, view: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The samples at these positions, as the dict a batch is made of.

        Args:
            positions: int64 ``[n]``, each in 0 … N - 1.
            augment: Makes views of pictures and truths together; None gives both as they are, with view -1.
            view: Number of the view of each sample, int64 ``[n]``; needed to augment.

        Returns:
            ``inputs`` ``[n, C, H, W]`` (uint8 stays uint8), ``target`` ``[n, ...]`` (a class is int64, -1 where not
            labelled), ``index`` int64 ``[n]``, ``view`` int64 ``[n]``, ``labelled`` bool ``[n]``.
        """
        index, inputs, target = self.index[positions], self.gather(positions), self.targets(positions)
        if augment is None or view is None:
            view = torch.full_like(index, -1)
        else:
            inputs, target = augment.pair(inputs, target, index, view)
        labelled = self.labelled[positions]
        return {"inputs": inputs, "target": target, "index": index, "view": view, "labelled": labelled}

    @cached_property
    def labelled(self) -> Tensor:
        """Whether the label is known, bool ``[N]``."""
        return self.labels != UNLABELLED

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each picture."""
        return self._pictures.shape

    @property
    def in_memory(self) -> bool:
        """Whether the pictures are held decoded."""
        return self._pictures.in_memory

    def gather(self, positions: Tensor) -> Tensor:
        """The pictures at these positions of the slice.

        Args:
            positions: int64 ``[n]``, each in 0 … N - 1.

        Returns:
            ``[n, C, H, W]``, uint8, or float32 where the source is float.
        """
        return self._pictures.gather(self._positions[positions])

    def targets(self, positions: Tensor) -> Tensor:
        """The truths at these positions: classes, int64 ``[n]``, or what the truth of this data is, ``[n, ...]``."""
        if self._truth is None:
            return self.labels[positions]
        return self._truth.gather(self._positions[positions])

    @property
    def mapped(self) -> bool:
        """Whether the truth of a sample is more than a class."""
        return self._truth is not None

    @property
    def augmentation(self) -> type[Augmentation]:
        """What makes views of a picture and its truth together."""
        return Augment if self._truth is None else self._truth.augmentation

    def whole(self) -> "Slice":
        """The samples as they are answered: each picture once."""
        return self

    def select(self, positions: Tensor) -> "Slice":
        """The samples at these positions, as a slice that shares the pictures.

        Args:
            positions: int64 ``[n]``, each in 0 … N - 1.

        Returns:
            A slice of n samples; their `index` is the one they have here.
        """
        return self._with(positions, self.labels[positions])

    def unlabel(self, positions: Tensor) -> "Slice":
        """The same samples, those at these positions without their label.

        Args:
            positions: int64 ``[n]``, each in 0 … N - 1.

        Returns:
            A slice of N samples that shares the pictures.
        """
        return self._with(torch.arange(len(self)), self.labels.index_fill(0, positions, UNLABELLED))

    def _with(self, positions: Tensor, labels: Tensor) -> "Slice":
        part = type(self).__new__(type(self))
        part._pictures, part._truth, part.classes, part.labels = self._pictures, self._truth, self.classes, labels
        part._positions, part.index = self._positions[positions], self.index[positions]
        part.blocks = None if self.blocks is None else self.blocks[positions]
        return part

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over pictures (names and sizes of files decoded lazily), truths, index and classes."""
        told = hashlib.sha256(repr(self.classes).encode())
        told.update(self._pictures.digest(self._positions))
        if self._truth is not None:
            told.update(self._truth.digest(self._positions))
        told.update(self.labels.numpy().data)
        told.update(self.index.numpy().data)
        return told.hexdigest()


@dataclass(frozen=True)
class Splits:
    """A data set, cut into slices that share no sample.

    Args:
        train: What is learned from.
        selection: Held out of training: early stop, best checkpoint, what is shipped.
        guard: Held out of training: held-out gradients and trust; may be empty.
        test: Read once, at the end.
        classes: Names of the classes.
        guess: What was recognised, one line for people.
        notes: What else people should know, a line each.
        facts: Options of the task that the data decides, such as the scale of super-resolution.
    """

    train: Slice
    selection: Slice
    guard: Slice
    test: Slice
    classes: tuple[str, ...]
    guess: str
    notes: list[str] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the fingerprints of the four slices."""
        slices = (self.train, self.selection, self.guard, self.test)
        return hashlib.sha256(" ".join(part.fingerprint for part in slices).encode()).hexdigest()
