"""The min-norm weights of AEKD: as MGDA's, with a largest weight."""

import math

import torch
from torch import Tensor

from .base import unit
from .quadratic import minimise


def capped(gramian: Tensor, *, limit: float = 1.0, normalise: bool = False) -> Tensor:
    """Weights of the shortest mixture of gradients in which none has more than `limit`.

    Args:
        gramian: Inner products of the gradients, ``[K, K]``.
        limit: Largest weight; 1 or more sets none, 1/K or less makes all weights equal.
        normalise: Compare the gradients at length 1, and divide their weights by the lengths afterwards; the limit
            then holds before that division.

    Returns:
        Weights in [0, 1] that sum to 1, float64 ``[K]``.

    Reference:
        Du et al. 2020, "Agree to disagree", eq. 7. Deviation: solved exactly, where the published code hands a
        one-class support-vector machine a tolerance that small gradients fall below.

    Example:
        >>> capped(torch.tensor([[1.0, 0.0], [0.0, 9.0]]), limit=0.6)
        tensor([0.6000, 0.4000], dtype=torch.float64)
    """
    count = len(gramian)
    upper = max(min(limit, math.inf), 1 / count)
    if not normalise:
        return minimise(gramian, upper=upper, total=1.0)
    cosines, length = unit(gramian)
    weights = minimise(cosines, upper=upper, total=1.0)
    if not bool((length > 0).all()):  # a gradient of 0 is alone the shortest mixture
        weights, length = torch.where(length > 0, 0.0, weights), torch.ones_like(length)
    weights = weights / length
    return weights / weights.sum()
