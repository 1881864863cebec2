"""FairGrad and Nash-MTL: every loss is to fall by its fair share."""

import math

import torch
from torch import Tensor

from tutelage.errors import InputError

from .base import Solver, unit


class FairGrad(Solver):
    """Share the progress of a step fairly among the losses.

    With ``d`` the direction, the weights solve ``<g_k, d> = w_k ** (-1 / fairness)``: 0 leads to the plain sum, 1 to
    proportional fairness (Nash-MTL), 2 to the smallest potential delay, and large values towards equal progress.

    Args:
        fairness: Above 0.

    Reference:
        Ban, Ji 2024, "Fair resource allocation in multi-task learning", arXiv:2402.15638, eq. 4; `fairness` is its
        alpha. Deviation: solved by Newton's method to rounding, where the published code takes general least squares.

    Example:
        >>> FairGrad(fairness=1.0)(torch.diag(torch.tensor([1.0, 4.0])))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """

    def __init__(self, *, fairness: float = 1.0) -> None:
        super().__init__()
        if not 0 < fairness < math.inf:
            raise InputError(f"FairGrad: expected fairness above 0; found {fairness}.")
        self.fairness = fairness

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights above 0, float64 ``[K]``."""
        cosines, length = unit(gramian)
        weights = torch.ones_like(length)
        heard = (length > 0).nonzero().flatten()
        if len(heard):
            weights[heard] = shared_out(cosines[heard][:, heard], length[heard], self.fairness)
        return weights


class NashMTL(FairGrad):
    """Let the losses bargain: the direction in which the product of their gains is largest.

    The weights solve ``<g_k, d> = 1 / w_k``: a gradient twice as long gets half the weight, so that lengths do not
    matter.

    Reference:
        Navon et al. 2022, "Multi-task learning as a bargaining game", arXiv:2202.01017, eq. 2. Deviations: solved to
        rounding by Newton's method, where the published code stops after 20 convex programmes and keeps earlier
        weights where its solver fails; the length of the direction is not cut to 1, which clipping does.

    Example:
        >>> NashMTL()(torch.diag(torch.tensor([1.0, 4.0])))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """

    def __init__(self) -> None:
        super().__init__(fairness=1.0)


def shared_out(cosines: Tensor, length: Tensor, fairness: float) -> Tensor:
    """The weights ``w`` above 0 with ``gramian @ w = w ** (-1 / fairness)``, float64 ``[K]``.

    That is where the slope of a convex function is 0: damped Newton steps, which stay above 0. A hundred-millionth
    on the diagonal keeps weights finite where gradients cancel each other.
    """
    power = 1 / fairness
    square = cosines + 1e-8 * torch.eye(len(cosines), dtype=torch.float64)
    wanted = length ** (power - 1)
    x = wanted ** (1 / (1 + power))
    for _ in range(200):
        worth = wanted * x**-power
        slope = square @ x - worth
        if float((slope.abs() / (square.abs() @ x + worth)).max()) < 1e-13:
            break
        step = torch.linalg.solve(square + torch.diag(power * worth / x), -slope)
        size = min(1.0, 0.9 / max(1e-300, float((-step / x).max()))) if bool((step < 0).any()) else 1.0
        before = float(slope @ step)
        while size > 1e-10:
            moved = x + size * step
            if float((square @ moved - wanted * moved**-power) @ step) <= -0.9 * before:
                break
            size /= 2
        x = x + size * step
    return x / length
