"""Directions: vectors without their length."""

import torch
from torch import Tensor


def unit(x: Tensor, *, dim: int = 1) -> Tensor:
    """Vectors scaled to length 1; a vector of length 0 stays 0 and gets no gradient.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / torch.where(length > 0, length, torch.inf)
