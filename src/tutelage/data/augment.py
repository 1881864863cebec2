"""Augmentation of a batch of pictures as a pure function of (seed, index, view).

Each random number is hashed from the seed, the sample's index, its view and the number of the draw (`draws`),
so a picture does not depend on its batch or its worker, and one operation does not move the draws of another.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import uniform

# The numbers of the draws: fixed, so that a new operation leaves the old ones as they are.
_CROP_Y, _CROP_X, _FLIP, _ROTATE, _CUTOUT_Y, _CUTOUT_X, _BRIGHTNESS = range(7)


class Augmentation(Protocol):
    """Makes views of pictures together with their truth, as a function of (index, view)."""

    @classmethod
    def usual(cls, shape: tuple[int, int, int], *, seed: int = 0) -> Self:
        """The augmentation for pictures of this shape, where nobody chose one."""

    def pair(self, pictures: Tensor, target: Tensor, index: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures ``[B, C, H, W]`` and truths ``[B, ...]`` of these samples in these views; -1 is as it is."""

    def to_dict(self) -> dict[str, Any]:
        """The arguments, as plain values."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the arguments."""


@dataclass(frozen=True)
class Augment:
    """Augments batches; equal (seed, index, view) give equal pictures. View -1 is the clean picture.

    The operations run in this order: rotate, crop, flip, brightness, cutout.

    Args:
        crop: Pixels of black added on each side before a crop of the original size.
        flip: Mirror left and right with probability 1/2.
        rotate: Largest angle to either side, in degrees; black comes in at the corners.
        cutout: Side of a black square at a random place, in pixels; it may hang over the border.
        brightness: Largest relative change: each picture is multiplied by a number in [1 - b, 1 + b].
        seed: Another seed gives other views.

    Raises:
        ValueError: A negative amount.

    Reference:
        Cutout: DeVries & Taylor 2017, arXiv:1708.04552; they fill normalised pictures with 0, we raw ones.

    Example:
        >>> pictures = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4)
        >>> index, view = torch.tensor([10, 11]), torch.tensor([3, 3])
        >>> augment = Augment(crop=1, flip=True)
        >>> torch.equal(augment(pictures, index, view)[1:], augment(pictures[1:], index[1:], view[1:]))
        True
    """

    crop: int = 0
    flip: bool = False
    rotate: float = 0.0
    cutout: int = 0
    brightness: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("crop", "rotate", "cutout", "brightness"):
            if getattr(self, name) < 0:
                raise ValueError(f"Augment: expected {name} of 0 or more, found {getattr(self, name)}.")

    def __call__(self, pictures: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """The augmented pictures.

        Args:
            pictures: ``[B, C, H, W]``, uint8, or float in [0, 1].
            index: Number of each sample in its set, int64 ``[B]``.
            view: Number of the view of each sample, int64 ``[B]``; -1 leaves the picture as it is.

        Returns:
            Pictures of the same shape and type.
        """
        clean = view < 0
        if clean.all():
            return pictures
        out = pictures
        if self.rotate:
            out = _rotate(out, (2 * self._draw(index, view, _ROTATE) - 1) * self.rotate)
        if self.crop:
            places = 2 * self.crop + 1
            down, right = ((self._draw(index, view, n) * places).long() for n in (_CROP_Y, _CROP_X))
            out = _crop(out, self.crop, down, right)
        if self.flip:
            out = torch.where(_per_picture(self._draw(index, view, _FLIP) < 0.5), out.flip(3), out)
        if self.brightness:
            out = _brighten(out, 1 + (2 * self._draw(index, view, _BRIGHTNESS) - 1) * self.brightness)
        if self.cutout:
            down, right = (self._draw(index, view, n) for n in (_CUTOUT_Y, _CUTOUT_X))
            out = _cutout(out, self.cutout, down, right)
        return torch.where(_per_picture(clean), pictures, out) if clean.any() else out

    def pair(self, pictures: Tensor, target: Tensor, index: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """The augmented pictures with their classes, which no view changes."""
        return self(pictures, index, view), target

    @classmethod
    def usual(cls, shape: tuple[int, int, int], *, seed: int = 0) -> "Augment":
        """As `defaults`."""
        return defaults(shape, seed=seed)

    def _draw(self, index: Tensor, view: Tensor, number: int) -> Tensor:
        return uniform(self.seed, index, view, number)

    def to_dict(self) -> dict[str, int | bool | float]:
        """The arguments, as plain values: ``Augment(**augment.to_dict()) == augment``."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 over the arguments."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def defaults(shape: tuple[int, int, int], *, seed: int = 0) -> Augment:
    """The usual augmentation for pictures of this shape.

    A random crop after padding by an eighth of the shorter side, and a flip for colour pictures. Grey ones
    are taken for digits or letters, which a flip would turn into something else. For colour pictures with a
    left and a right (street numbers, road signs) set `flip` to False yourself.

    Args:
        shape: Channels, height and width.
        seed: Another seed gives other views.

    Returns:
        The augmentation: crop 4 and flip for 3 x 32 x 32, crop 1 for 1 x 8 x 8.

    Example:
        >>> defaults((3, 32, 32)).to_dict()["crop"], defaults((1, 8, 8)).flip
        (4, False)
    """
    channels, height, width = shape
    return Augment(crop=min(height, width) // 8, flip=channels == 3, seed=seed)


def _per_picture(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _crop(pictures: Tensor, padding: int, down: Tensor, right: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    padded = F.pad(pictures, [padding] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, places, places, H, W], a view
    return windows[torch.arange(len(pictures), device=pictures.device), :, down, right]


def _rotate(pictures: Tensor, degrees: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    angle = (degrees * (math.pi / 180)).float()
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # affine_grid measures both sides as 2: the ratios keep the rotation rigid on an oblong picture.
    x = torch.stack([cos, -sin * height / width, zero], 1)
    y = torch.stack([sin * width / height, cos, zero], 1)
    grid = F.affine_grid(torch.stack([x, y], 1), list(pictures.shape), align_corners=False)
    turned = F.grid_sample(pictures.float(), grid, align_corners=False)
    return _as(pictures, turned)


def _brighten(pictures: Tensor, factor: Tensor) -> Tensor:
    bright = pictures.float() * _per_picture(factor.float())
    return _as(pictures, bright.clamp(0, 255 if pictures.dtype == torch.uint8 else 1))


def _cutout(pictures: Tensor, side: int, down: Tensor, right: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    top, left = ((down * height).long() - side // 2), ((right * width).long() - side // 2)
    y = torch.arange(height, device=pictures.device) - top[:, None]
    x = torch.arange(width, device=pictures.device) - left[:, None]
    hole = ((y >= 0) & (y < side))[:, :, None] & ((x >= 0) & (x < side))[:, None, :]
    return pictures.masked_fill(hole[:, None], 0)


def _as(pictures: Tensor, values: Tensor) -> Tensor:
    return values.round().to(torch.uint8) if pictures.dtype == torch.uint8 else values.to(pictures.dtype)
