"""Augmentation of pictures together with their masks, as a pure function of (seed, index, view)."""

import hashlib
import json
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import uniform

IGNORED = 255
"""The class of a pixel whose truth is not known."""

# The numbers of the draws: fixed, so that a new operation leaves the old ones as they are.
_FLIP, _SCALE, _DOWN, _RIGHT, _BRIGHTNESS = range(5)


@dataclass(frozen=True)
class AugmentMasks:
    """Augments pictures and masks alike; equal (seed, index, view) give equal pairs. View -1 is the pair as it is.

    A window of the picture's own shape is taken from the scaled picture at a random place. Pictures are interpolated,
    masks take the nearest pixel; what lies outside is black, and ignored in the mask.

    Args:
        flip: Mirror left and right with probability 1/2.
        scale: Largest factor by which pictures are made larger or smaller, 1 or more; its logarithm is uniform.
        brightness: Largest relative change: each picture is multiplied by a number in [1 - b, 1 + b].
        seed: Another seed gives other views.

    Raises:
        ValueError: A scale below 1, or a negative brightness.

    Example:
        >>> pictures, masks = torch.rand(2, 3, 8, 8), torch.randint(3, (2, 8, 8), dtype=torch.uint8)
        >>> index, view = torch.tensor([10, 11]), torch.tensor([3, 3])
        >>> both = AugmentMasks(flip=True, scale=2).pair(pictures, masks, index, view)
        >>> last = AugmentMasks(flip=True, scale=2).pair(pictures[1:], masks[1:], index[1:], view[1:])
        >>> torch.equal(both[0][1:], last[0]), torch.equal(both[1][1:], last[1])
        (True, True)
    """

    flip: bool = False
    scale: float = 1.0
    brightness: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.scale >= 1 and self.brightness >= 0):
            raise ValueError(
                "AugmentMasks: expected a scale of 1 or more and a brightness of 0 or more, found "
                f"{self.scale} and {self.brightness}."
            )

    @classmethod
    def usual(cls, shape: tuple[int, int, int], *, seed: int = 0) -> "AugmentMasks":
        """A flip, and scales from 2/3 to 3/2, whatever the shape."""
        return cls(flip=True, scale=1.5, seed=seed)

    def pair(self, pictures: Tensor, target: Tensor, index: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """The augmented pictures and masks.

        Args:
            pictures: ``[B, C, H, W]``, uint8, or float in [0, 1].
            target: Masks, uint8 ``[B, H, W]``.
            index: Number of each sample in its set, int64 ``[B]``.
            view: Number of the view of each sample, int64 ``[B]``; -1 leaves the pair as it is.

        Returns:
            Pairs of the same shapes and types.
        """
        clean = view < 0
        if clean.all():
            return pictures, target
        if self.scale > 1:
            grid = self._grid(pictures, index, view)
            seen = F.grid_sample(pictures.float(), grid, align_corners=False)
            # Outside, sampling finds 0: what is sampled is the distance from the ignored class.
            masks = F.grid_sample(target.float()[:, None] - IGNORED, grid, mode="nearest", align_corners=False)
            out, marks = _as(pictures, seen), (masks[:, 0] + IGNORED).round().to(target.dtype)
        else:
            mirrored = (self._flips(index, view) < 0)[:, None, None]
            out = torch.where(mirrored[:, None], pictures.flip(3), pictures)
            marks = torch.where(mirrored, target.flip(2), target)
        if self.brightness:
            factor = 1 + (2 * uniform(self.seed, index, view, _BRIGHTNESS) - 1) * self.brightness
            most = 255 if pictures.dtype == torch.uint8 else 1
            out = _as(pictures, (out.float() * factor.float()[:, None, None, None]).clamp(0, most))
        keep = clean[:, None, None]
        return torch.where(keep[:, None], pictures, out), torch.where(keep, target, marks)

    def _flips(self, index: Tensor, view: Tensor) -> Tensor:
        """-1 where a sample is mirrored, else 1."""
        return 1 - 2 * ((uniform(self.seed, index, view, _FLIP) < 0.5) & self.flip).float()

    def _grid(self, pictures: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """Where each pixel of the view comes from."""
        power = 2 * uniform(self.seed, index, view, _SCALE) - 1
        side = (self.scale**-power).float()  # of the window, as a share of the picture
        down, right = ((2 * uniform(self.seed, index, view, n) - 1).float() * (1 - side) for n in (_DOWN, _RIGHT))
        zero = torch.zeros_like(side)
        x = torch.stack([side * self._flips(index, view), zero, right], 1)
        y = torch.stack([zero, side, down], 1)
        return F.affine_grid(torch.stack([x, y], 1), list(pictures.shape), align_corners=False)

    def to_dict(self) -> dict[str, int | bool | float]:
        """The arguments, as plain values: ``AugmentMasks(**augment.to_dict()) == augment``."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 over the arguments."""
        return hashlib.sha256(json.dumps({"masks": self.to_dict()}, sort_keys=True).encode()).hexdigest()


def _as(pictures: Tensor, values: Tensor) -> Tensor:
    return values.round().to(torch.uint8) if pictures.dtype == torch.uint8 else values.to(pictures.dtype)
