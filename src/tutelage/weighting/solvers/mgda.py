"""MGDA: the shortest vector in the convex hull of the gradients."""

from typing import Literal

import torch
from torch import Tensor

from tutelage.errors import InputError

from .base import Solver, norms
from .quadratic import minimise

NORMALISERS = ("none", "l2", "loss", "loss+")


class MGDA(Solver):
    """Take the direction along which the least served gradient is served best: the min-norm point of their hull.

    The weights sum to 1. Either the direction is 0, where no direction serves all, or it lowers every loss, and no
    gradient has a smaller projection on it than its own length squared. It is never longer than the shortest
    gradient: a row that is fitted already, or one that points against the task, slows all others down.

    Args:
        normaliser: What gradients are divided by before they are compared: ``"none"``; ``"l2"``, their length;
            ``"loss"``, their loss; ``"loss+"``, both. The weights then apply to the gradients as they are.

    Reference:
        Désidéri 2012; Sener, Koltun 2018, "Multi-task learning as multi-objective optimization", arXiv:1810.04650,
        eq. 3. Deviation: solved exactly, where published codes stop Frank-Wolfe or projected steps early.

    Example:
        >>> MGDA()(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """

    def __init__(self, *, normaliser: Literal["none", "l2", "loss", "loss+"] = "none") -> None:
        super().__init__()
        if normaliser not in NORMALISERS:
            raise InputError(f"MGDA: expected normaliser to be one of {', '.join(NORMALISERS)}; found {normaliser!r}.")
        self.normaliser = normaliser

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights in [0, 1] that sum to 1, float64 ``[K]``.

        Raises:
            InputError: The normaliser needs losses, and none are given.
        """
        inverse = torch.ones(len(gramian), dtype=torch.float64)
        if self.normaliser in ("l2", "loss+"):
            inverse = inverse * _inverse(norms(gramian))
        if self.normaliser in ("loss", "loss+"):
            if losses is None:
                raise InputError(f"MGDA: normaliser={self.normaliser!r} needs the losses; found none.")
            inverse = inverse * _inverse(losses.double())
        return minimise(gramian.double() * inverse[:, None] * inverse, total=1.0)


def _inverse(sizes: Tensor) -> Tensor:
    return torch.where(sizes > 0, 1 / sizes, 1.0)
