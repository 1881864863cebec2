"""Augmentation of pictures and their boxes together, as a pure function of (seed, index, view)."""

import hashlib
import json
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import uniform

NO_BOX = -1
"""The class of a row that holds no box."""

# The numbers of the draws: fixed, so that a new operation leaves the old ones as they are.
_FLIP, _SCALE, _DOWN, _RIGHT, _BRIGHTNESS, _FLIP_DOWN = range(6)


@dataclass(frozen=True)
class AugmentBoxes:
    """Augments batches of pictures with boxes; equal (seed, index, view) give equal results. View -1 is clean.

    The operations run in this order: flip, scale, brightness.

    Args:
        flip: Mirror left and right with probability 1/2.
        flip_down: Mirror top and bottom with probability 1/2: for pictures from above or through a microscope.
        scale: Largest factor by which pictures are made larger or smaller, 1 or more; its logarithm is uniform. A
            smaller one lies on black at a random place, of a larger one a random part is seen.
        brightness: Largest relative change: each picture is multiplied by a number in [1 - b, 1 + b].
        visible: A box of which a smaller share of its area is still seen is dropped.
        seed: Another seed gives other views.

    Raises:
        ValueError: A scale below 1, or a negative amount.

    Example:
        >>> pictures, target = torch.rand(1, 3, 8, 8), torch.tensor([[[0.0, 2.0, 3.0, 5.0, 1.0]]])
        >>> index, view = torch.tensor([0]), torch.tensor([0])
        >>> mirrored = [AugmentBoxes(flip=True, seed=seed).pair(pictures, target, index, view) for seed in range(9)]
        >>> sorted({tuple(boxes[0, 0].tolist()) for _, boxes in mirrored})
        [(0.0, 2.0, 3.0, 5.0, 1.0), (5.0, 2.0, 8.0, 5.0, 1.0)]
    """

    flip: bool = False
    flip_down: bool = False
    scale: float = 1.0
    brightness: float = 0.0
    visible: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.scale >= 1 and self.brightness >= 0 and self.visible >= 0):
            raise ValueError(
                "AugmentBoxes: expected a scale of 1 or more, and brightness and visible of 0 or more; found "
                f"{self.scale}, {self.brightness} and {self.visible}."
            )

    @classmethod
    def usual(cls, shape: tuple[int, int, int], *, seed: int = 0) -> "AugmentBoxes":
        """A flip, scales from 2/3 to 3/2 and a little brightness, whatever the shape."""
        return cls(flip=True, scale=1.5, brightness=0.1, seed=seed)

    def pair(self, pictures: Tensor, target: Tensor, index: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """The augmented pictures, and their boxes.

        Args:
            pictures: ``[B, C, H, W]``, uint8, or float in [0, 1].
            target: ``[B, M, 5]``: left, top, right, bottom in pixels, class; class -1 pads.
            index: Number of each sample in its set, int64 ``[B]``.
            view: Number of the view of each sample, int64 ``[B]``; -1 leaves the sample as it is.

        Returns:
            Both with their shape and type.
        """
        clean = view < 0
        if clean.all():
            return pictures, target
        out, boxes = pictures, target
        height, width = pictures.shape[2:]
        for chosen, number, axis, side in ((self.flip, _FLIP, 3, width), (self.flip_down, _FLIP_DOWN, 2, height)):
            if chosen:
                turned = self._draw(index, view, number) < 0.5
                out = torch.where(turned[:, None, None, None], out.flip(axis), out)
                boxes = torch.where(turned[:, None, None], _mirrored(boxes, 3 - axis, side), boxes)
        if self.scale > 1:
            sizes = self.scale ** (2 * self._draw(index, view, _SCALE) - 1)
            down, right = (self._draw(index, view, number) for number in (_DOWN, _RIGHT))
            out, boxes = _scaled(out, boxes, sizes.float(), down.float(), right.float(), self.visible)
        if self.brightness:
            factor = 1 + (2 * self._draw(index, view, _BRIGHTNESS) - 1) * self.brightness
            bright = out.float() * factor.float()[:, None, None, None]
            out = _as(pictures, bright.clamp(0, 255 if pictures.dtype == torch.uint8 else 1))
        out = torch.where(clean[:, None, None, None], pictures, out)
        return out, torch.where(clean[:, None, None], target, boxes)

    def _draw(self, index: Tensor, view: Tensor, number: int) -> Tensor:
        return uniform(self.seed, index, view, number)

    def to_dict(self) -> dict[str, int | bool | float]:
        """The arguments, as plain values: ``AugmentBoxes(**augment.to_dict()) == augment``."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 over the arguments."""
        return hashlib.sha256(json.dumps(["boxes", self.to_dict()], sort_keys=True).encode()).hexdigest()


def _mirrored(boxes: Tensor, axis: int, side: int) -> Tensor:
    """Boxes in a picture mirrored along an axis (0: left and right), padding left alone."""
    mirrored = boxes.clone()
    mirrored[..., axis], mirrored[..., axis + 2] = side - boxes[..., axis + 2], side - boxes[..., axis]
    return torch.where(boxes[..., 4:] == NO_BOX, boxes, mirrored)


def _scaled(
    pictures: Tensor, boxes: Tensor, size: Tensor, down: Tensor, right: Tensor, visible: float
) -> tuple[Tensor, Tensor]:
    """Pictures enlarged by `size` and shifted, at `down` and `right` (in 0 to 1) of the room there is."""
    height, width = pictures.shape[2:]
    top, left = down * (1 - size) * height, right * (1 - size) * width
    # Where each place of the new picture lies in the old one, both measured from -1 to 1.
    grid = torch.zeros(len(pictures), 2, 3)
    grid[:, 0, 0] = grid[:, 1, 1] = 1 / size
    grid[:, 0, 2] = (1 - 2 * left / width) / size - 1
    grid[:, 1, 2] = (1 - 2 * top / height) / size - 1
    places = F.affine_grid(grid.to(pictures.device), list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures.float(), places, align_corners=False)
    corners = boxes[..., :4] * size[:, None, None] + torch.stack([left, top, left, top], 1)[:, None]
    limits = corners.new_tensor([width, height, width, height])
    inner = corners.clamp(min=0).minimum(limits)
    share = _area(inner) / _area(corners).clamp(min=1e-6)
    seen = (share >= visible) & (_area(inner) > 0) & (boxes[..., 4] != NO_BOX)
    kept = torch.cat([inner, boxes[..., 4:]], dim=2)
    none = torch.zeros_like(kept)
    none[..., 4] = NO_BOX
    return _as(pictures, moved), torch.where(seen[..., None], kept, none)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def _as(pictures: Tensor, values: Tensor) -> Tensor:
    return values.round().to(torch.uint8) if pictures.dtype == torch.uint8 else values.to(pictures.dtype)
