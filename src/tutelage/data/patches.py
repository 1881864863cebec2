"""Patches: the views of pairs of pictures, a small one and a large one, at one random place."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .draws import uniform

# The numbers of the draws: fixed, so that a new operation leaves the old ones as they are.
_DOWN, _RIGHT, _FLIP, _UPEND, _TURN = range(5)


@dataclass(frozen=True)
class Patches:
    """Where a patch is cut, and how it is mirrored; equal (seed, index, view) give equal patches.

    Args:
        flip: Mirror left and right, and top and bottom, with probability 1/2 each.
        turn: Swap rows and columns with probability 1/2; with `flip`, all eight positions of a square.
        seed: Another seed gives other patches.

    Example:
        >>> small, large = torch.arange(4.0).view(1, 1, 2, 2), torch.arange(16.0).view(1, 1, 4, 4)
        >>> one = torch.tensor([5])
        >>> small, large = Patches(seed=1).pair(small, large, one, one)
        >>> small.shape, large.shape
        (torch.Size([1, 1, 2, 2]), torch.Size([1, 1, 4, 4]))
    """

    flip: bool = True
    turn: bool = True
    seed: int = 0

    @classmethod
    def usual(cls, shape: tuple[int, int, int], *, seed: int = 0) -> "Patches":
        """Mirrored and turned."""
        return cls(seed=seed)

    def corner(self, index: Tensor, view: Tensor, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The upper left corners of patches that have so many places, int64 ``[B]`` each."""
        draws = (uniform(self.seed, index, view, number) for number in (_DOWN, _RIGHT))
        top, left = ((draw * places).long() for draw, places in zip(draws, (down, right), strict=True))
        return top, left

    def pair(self, pictures: Tensor, target: Tensor, index: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """Square pictures and their truth, both mirrored and turned in the same way; view -1 is as it is."""
        for number, asked in ((_FLIP, self.flip), (_UPEND, self.flip), (_TURN, self.turn)):
            if asked:
                moved = ((uniform(self.seed, index, view, number) < 0.5) & (view >= 0))[:, None, None, None]
                pictures, target = (torch.where(moved, _moved(x, number), x) for x in (pictures, target))
        return pictures, target

    def to_dict(self) -> dict[str, Any]:
        """The arguments, as plain values: ``Patches(**patches.to_dict()) == patches``."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 over the arguments."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _moved(x: Tensor, number: int) -> Tensor:
    """Pictures mirrored left and right, top and bottom, or along their diagonal."""
    return x.transpose(2, 3) if number == _TURN else x.flip(3 if number == _FLIP else 2)
