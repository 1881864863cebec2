"""Pairs of pictures for super-resolution: the small one and the large one, of any sizes."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import DataError

from .augment import Augmentation
from .bicubic import downscale, modcrop
from .encoded import Encoded
from .patches import Patches
from .slices import Slice


class Given:
    """Pictures in memory, where `Encoded` has files: of a data set of the user's own.

    Args:
        pictures: uint8 ``[1 or 3, h, w]`` each.
        name: What the set is called.
    """

    def __init__(self, pictures: Sequence[Tensor], name: str) -> None:
        self._pictures, self.names = pictures, [f"{name}[{number}]" for number in range(len(pictures))]

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, number: int) -> Tensor:
        """One picture as it is."""
        return self._pictures[number]

    def header(self, number: int) -> tuple[int, int, int]:
        """The shape of one picture."""
        channels, height, width = self._pictures[number].shape
        return channels, height, width

    def mark(self, number: int) -> bytes:
        """What tells this picture from another."""
        return self._pictures[number].contiguous().numpy().tobytes()


class Pairs:
    """Small and large pictures, held in memory or decoded when they are asked for.

    Args:
        large: The large pictures.
        small: The small ones, in the same order, each as large as `bicubic.downscale` would make it; None: each is made
            of the large one, by that.
        scale: How many times larger.
        channels: 1 only if all are grey.
        patch: Side of a training patch of the large picture.
        held: Whether to hold them.
    """

    augmentation: type[Augmentation] = Patches

    def __init__(
        self,
        large: Encoded | Given,
        small: Encoded | Given | None,
        *,
        scale: int,
        channels: int,
        patch: int,
        held: bool,
    ) -> None:
        self._large, self._small = large, small
        self.scale, self.patch = scale, patch
        self.shape = (channels, patch // scale, patch // scale)
        self.in_memory = False
        self._held = [self.pair(number) for number in range(len(large))] if held else []
        self.in_memory = held

    def __len__(self) -> int:
        return len(self._large)

    def pair(self, number: int) -> tuple[Tensor, Tensor]:
        """A small picture and its large one, uint8 ``[C, h, w]`` and ``[C, scale * h, scale * w]``."""
        if self.in_memory:
            return self._held[number]
        large = modcrop(self._read(self._large, number), self.scale)
        return (downscale(large, self.scale) if self._small is None else self._read(self._small, number)), large

    def _read(self, encoded: Encoded | Given, number: int) -> Tensor:
        try:
            return encoded.read(number).expand(self.shape[0], -1, -1)
        except Exception as error:  # a decoder may raise anything on a broken file
            told = str(error) or type(error).__name__
            raise DataError(
                f"expected a readable picture, found {encoded.names[number]}: {told}. Mend it, or remove it."
            ) from error

    def gather(self, positions: Tensor) -> Tensor:
        """The small pictures at these positions, each cut to the middle that all of them have."""
        return _middles([self.pair(number)[0] for number in positions.tolist()])

    def digest(self, positions: Tensor) -> bytes:
        """A hash of the scale and of each picture's bytes, or file name and size where it is a file."""
        told = hashlib.sha256(f"{self.scale} {self.patch} {self.shape}".encode())
        for number in positions.tolist():
            for encoded in (self._large, self._small):
                told.update(b"" if encoded is None else encoded.mark(number))
        return told.digest()


class PairSlice(Slice):
    """Part of a data set of pairs: patches of them for training, whole pictures for all else.

    Args:
        pairs: The pictures.
    """

    _pictures: Any
    ragged = True

    def __init__(self, pairs: Pairs) -> None:
        super().__init__(pairs, torch.zeros(len(pairs), dtype=torch.int64), (), truth=pairs)

    def repeated(self, times: int) -> "PairSlice":
        """So many samples for each picture, which differ in their number and so in their patches."""
        positions = torch.arange(len(self)).repeat_interleave(times)
        part = self.select(positions)
        part.index = part.index * times + torch.arange(times).repeat(len(self))
        assert isinstance(part, PairSlice)
        return part

    def whole(self) -> Slice:
        """Each picture once, however many patches of it are samples."""
        kept = dict(zip(self._positions.flip(0).tolist(), range(len(self) - 1, -1, -1), strict=True))
        return self.select(torch.tensor(sorted(kept.values()), dtype=torch.int64))

    def targets(self, positions: Tensor) -> Tensor:
        """The large pictures at these positions, each cut to the middle that all of them have."""
        return _middles([self._pictures.pair(number)[1] for number in self._positions[positions].tolist()])

    def batch(
        self, positions: Tensor, augment: Augmentation | None = None, view: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Patches, or whole pictures where nothing is augmented: then all have to have one size.

        Args:
            positions: int64 ``[n]``.
            augment: `Patches`, or None for whole pictures.
            view: Number of the view of each sample, int64 ``[n]``; needed to augment.

        Returns:
            As `Slice.batch`, with uint8 ``inputs`` ``[n, C, h, w]`` and ``target`` ``[n, C, scale * h, scale * w]``.

        Raises:
            DataError: Whole pictures of several sizes were asked for at once.
        """
        index = self.index[positions]
        pairs = [self._pictures.pair(number) for number in self._positions[positions].tolist()]
        if augment is None or view is None:
            view = torch.full_like(index, -1)
            sizes = {tuple(small.shape) for small, _ in pairs}
            if len(sizes) > 1:
                raise DataError(
                    f"expected whole pictures one by one, found {len(sizes)} sizes in one batch. Train on patches "
                    "(data.augment=auto), or with data.batch_size=1."
                )
            inputs, target = (torch.stack(side) for side in zip(*pairs, strict=True))
        else:
            assert isinstance(augment, Patches)
            inputs, target = augment.pair(*self._patches(pairs, augment, index, view), index, view)
        labelled = self.labelled[positions]
        return {"inputs": inputs, "target": target, "index": index, "view": view, "labelled": labelled}

    def _patches(
        self, pairs: Sequence[tuple[Tensor, Tensor]], augment: Patches, index: Tensor, view: Tensor
    ) -> tuple[Tensor, Tensor]:
        scale, side = self._pictures.scale, self.shape[1]
        places = [torch.tensor([small.shape[dim] - side + 1 for small, _ in pairs]) for dim in (1, 2)]
        corners = zip(*(corner.tolist() for corner in augment.corner(index, view, *places)), strict=True)
        small: list[Tensor] = []
        large: list[Tensor] = []
        for pair, corner in zip(pairs, corners, strict=True):
            for cut, picture, factor in ((small, pair[0], 1), (large, pair[1], scale)):
                top, left, whole = corner[0] * factor, corner[1] * factor, side * factor
                cut.append(picture[:, top : top + whole, left : left + whole])
        return torch.stack(small), torch.stack(large)


def _middles(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures of several sizes, each cut to the middle that all of them have."""
    if not pictures:
        return torch.empty(0, 0, 0, 0, dtype=torch.uint8)
    height, width = (min(picture.shape[dim] for picture in pictures) for dim in (1, 2))
    cut = []
    for picture in pictures:
        top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
        cut.append(picture[:, top : top + height, left : left + width])
    return torch.stack(cut)
