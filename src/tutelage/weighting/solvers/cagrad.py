"""CAGrad: near the mean gradient, the direction that serves the least served best."""

import math
from typing import Literal

from torch import Tensor

from tutelage.errors import InputError

from .base import Solver
from .quadratic import minimise


class CAGrad(Solver):
    """Among the directions close to the mean gradient, take the one along which the least served gradient gains most.

    The direction lies within ``radius`` times the length of the mean gradient around it: 0 is the mean itself, and
    towards 1 and beyond the rule turns into MGDA. With a radius below 1 it comes to rest where the mean loss does,
    with whatever harmful row is in that mean.

    Args:
        radius: How far the direction may be from the mean gradient, relative to its length, 0 or more.
        rescale: What the direction is divided by: ``"none"``; ``"square"``, ``1 + radius**2``; ``"linear"``,
            ``1 + radius``.

    Reference:
        Liu et al. 2021, "Conflict-averse gradient descent for multi-task learning", arXiv:2110.14048, eq. 3 and 4;
        `radius` is its c. Deviations: solved exactly, where published codes stop a general optimiser early; the
        direction is a mean, where the official code multiplies by K.

    Example:
        >>> import torch
        >>> CAGrad(radius=0.0, rescale="none")(torch.eye(4))
        tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)
    """

    def __init__(self, *, radius: float = 0.5, rescale: Literal["none", "square", "linear"] = "square") -> None:
        super().__init__()
        if not 0 <= radius < math.inf:
            raise InputError(f"CAGrad: expected radius of 0 or more; found {radius}.")
        if rescale not in ("none", "square", "linear"):
            raise InputError(f"CAGrad: expected rescale to be none, square or linear; found {rescale!r}.")
        self.radius = radius
        self.rescale = rescale

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights above 0, float64 ``[K]``."""
        square = gramian.double()
        share, reach = worst_mixture(square, self.radius)
        length = math.sqrt(max(0.0, float(share @ square @ share)))
        weights = 1 / len(square) + reach / (length + 1e-8) * share
        return weights / {"none": 1, "square": 1 + self.radius**2, "linear": 1 + self.radius}[self.rescale]


def worst_mixture(gramian: Tensor, radius: float) -> tuple[Tensor, float]:
    """The mixture of gradients that the mean serves least, and how far the direction goes along it.

    With ``m`` the mean gradient, the minimum over mixtures ``w`` of ``<m, g_w> + reach * |g_w|``. Since a length is
    the minimum over ``s`` of ``|g|**2 / (2 s) + s / 2``, this is a quadratic programme for each ``s``, whose minimum
    is convex in ``s``: one root.

    Returns:
        ``w``, in [0, 1] with sum 1, float64 ``[K]``; and ``reach``.
    """
    square = gramian.double()
    reach = radius * math.sqrt(max(0.0, float(square.mean())) + 1e-8) + 1e-8
    mean = square.mean(dim=1)

    def look(log_length: float) -> tuple[Tensor, float]:
        share = minimise(square * (reach / math.exp(log_length)), pull=mean, total=1.0)
        return share, 2 * log_length - math.log(max(0.0, float(share @ square @ share)) + 1e-8)

    low, high = math.log(1e-8) / 2, math.log(float(square.diagonal().max()) + 1e-8) / 2
    (share, at_low), (at_top, at_high) = look(low), look(high)
    if at_low >= 0:
        return share, reach
    if at_high <= 0:
        return at_top, reach
    side = 0
    for _ in range(100):  # the Illinois variant of regula falsi: an end that stays counts half
        guess = (low * at_high - high * at_low) / (at_high - at_low)
        share, value = look(guess)
        if abs(value) < 1e-12 or high - low < 1e-13:
            break
        if value < 0:
            low, at_low, at_high, side = guess, value, at_high / (2 if side < 0 else 1), -1
        else:
            high, at_high, at_low, side = guess, value, at_low / (2 if side > 0 else 1), 1
    return share, reach
