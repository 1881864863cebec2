"""Inner products of a batch, precise enough to take differences of."""

import torch
from torch import Tensor

from .precision import widest


def gram(x: Tensor) -> Tensor:
    """Inner products of all pairs of flattened samples, seen from their mean: ``[B, B]``.

    They are float64 wherever the device has it, since what is asked of them are distances: small differences of large
    numbers. That is far cheaper than to hold the ``B * B * D`` differences of features.

    Example:
        >>> gram(torch.tensor([[1001.0], [1003.0]]))
        tensor([[ 1., -1.],
                [-1.,  1.]], dtype=torch.float64)
    """
    flat = widest(x.flatten(1))
    flat = flat - flat.mean(dim=0)
    with torch.autocast(x.device.type, enabled=False):
        return flat @ flat.T


def squared_distances(inner: Tensor) -> Tensor:
    """Squared distances of all pairs from their inner products; rounding may make them negative.

    Example:
        >>> squared_distances(gram(torch.tensor([[0.0], [2.0]])))
        tensor([[0., 4.],
                [4., 0.]], dtype=torch.float64)
    """
    own = inner.diagonal()
    return own[:, None] + own - 2 * inner
