"""Aligned-MTL: the gradients made orthogonal and equally long."""

import torch
from torch import Tensor

from tutelage.errors import InputError

from .base import Solver


class AlignedMTL(Solver):
    """Rotate and stretch the gradients as little as it takes to make them orthogonal and equally long, and add them up.

    The common length is that of the weakest principal component: one tiny gradient, or two that are nearly opposite,
    shrink the whole step. Weights may be negative.

    Args:
        eps: Components below ``K * eps`` times the largest are noise and left out; that of float32, in which
            gradients are computed.

    Reference:
        Senushkin et al. 2023, "Independent component alignment for multi-task learning", arXiv:2305.19000, eq. 10. As
        in the published code all rows have preference 1: a sum.

    Example:
        >>> AlignedMTL()(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """

    signed = True

    def __init__(self, *, eps: float = 1.2e-7) -> None:
        super().__init__()
        if not 0 <= eps < 1:
            raise InputError(f"AlignedMTL: expected eps in [0, 1); found {eps}.")
        self.eps = eps

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights that may be negative, float64 ``[K]``."""
        strength, component = torch.linalg.eigh(gramian.double())
        kept = strength > strength.max() * len(gramian) * self.eps
        if not kept.any():
            return torch.ones(len(gramian), dtype=torch.float64)
        strength, component = strength[kept], component[:, kept]
        balance: Tensor = component * (strength.min() / strength).sqrt() @ component.T
        return balance.sum(dim=0)
