"""UPGrad and DualProj: gradients projected onto the directions that conflict with none of them."""

import torch
from torch import Tensor

from .base import Solver, unit
from .quadratic import minimise


class UPGrad(Solver):
    """Project each gradient onto the directions that conflict with none, and take the mean of the projections.

    The direction raises no loss to first order, and is linear in the length of each gradient. A row that harms the
    task is protected from the task, too.

    Reference:
        Quinton, Rey 2024, "Jacobian descent for multi-objective optimization", arXiv:2406.16232, eq. 5. Deviations:
        solved exactly on gradients of length 1. Widely used code adds 1e-4 to the diagonal, so that a conflict of a
        long gradient with a short one remains, and takes the plain mean where all gradients are short.

    Example:
        >>> UPGrad()(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]))
        tensor([0.7500, 0.7500], dtype=torch.float64)
    """

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights of 1/K or more, float64 ``[K]``."""
        cosines, length = unit(gramian)
        weights = sum((projected(cosines, x) for x in torch.diag(length / len(length))), torch.zeros_like(length))
        return _unscaled(weights, length)


class DualProj(Solver):
    """Project the mean gradient onto the directions that conflict with none of the gradients.

    The direction raises no loss to first order, and is the mean where the mean raises none.

    Reference:
        Lopez-Paz, Ranzato 2017, "Gradient episodic memory for continual learning", arXiv:1706.08840, eq. 11, with
        the mean in place of the newest task's gradient. Deviation: as for `UPGrad`.

    Example:
        >>> DualProj()(torch.tensor([[1.0, -2.0], [-2.0, 8.0]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights of 1/K or more, float64 ``[K]``."""
        cosines, length = unit(gramian)
        return _unscaled(projected(cosines, length / len(length)), length)


def projected(gramian: Tensor, mixture: Tensor) -> Tensor:
    """The mixture of gradients that is nearest to a given one among those that conflict with no gradient.

    Args:
        gramian: Inner products, ``[K, K]``.
        mixture: Weights, 0 or more, ``[K]``.

    Returns:
        Weights, nowhere below those of `mixture`; float64 ``[K]``.

    Example:
        >>> projected(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]), torch.tensor([1.0, 0.0]))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    square, mixture = gramian.double(), mixture.double()
    return mixture + minimise(square, pull=square @ mixture)


def _unscaled(weights: Tensor, length: Tensor) -> Tensor:
    """Weights of gradients of length 1 as weights of the gradients themselves; a gradient of 0 has 1/K."""
    return torch.where(length > 0, weights / length, 1 / len(length))
