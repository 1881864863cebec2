"""IMTL-G: a direction with equal projections on all gradients."""

import torch
from torch import Tensor

from .base import Solver, unit


class IMTLG(Solver):
    """Weigh the gradients so that their sum has the same projection on each of their directions.

    The weights sum to 1. They may be negative, and grow large where gradients are nearly opposite: a row with a
    negative weight is unlearned. Lengths do not matter, only directions.

    Reference:
        Liu et al. 2021, "Towards impartial multi-task learning", eq. 5. Deviations: where directions depend on each
        other, the shortest solution; a gradient of 0 has weight 0.

    Example:
        >>> IMTLG()(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([0.6667, 0.3333], dtype=torch.float64)
    """

    signed = True

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights that sum to 1 and may be negative, float64 ``[K]``."""
        cosines, length = unit(gramian)
        weights = torch.zeros_like(length)
        heard = (length > 0).nonzero().flatten()
        if len(heard) == 0:
            return torch.full_like(length, 1 / max(1, len(length)))
        # With x the weights times the lengths: equal projections are differences of rows, and sum(x / length) is 1.
        directions = cosines[heard][:, heard]
        system = torch.cat([directions[:1] - directions[1:], (length[heard].min() / length[heard])[None]])
        right = torch.zeros(len(heard), 1, dtype=torch.float64)
        right[-1] = length[heard].min()
        solved = torch.linalg.lstsq(system, right, driver="gelsd").solution[:, 0] / length[heard]
        weights[heard] = solved
        return weights
