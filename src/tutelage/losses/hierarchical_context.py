"""Hierarchical context: match maps at full resolution and on coarser and coarser grids."""

import torch.nn.functional as F
from torch import Tensor

from .maps import Features, as_map, levels
from .precision import full

GRIDS = (4, 2, 1)


def hierarchical_context(student: Features, teacher: Features, /) -> Tensor:
    """Mean squared difference of maps as they are, and averaged to 4x4, 2x2 and 1x1, as one weighted mean.

    The full resolution has weight 1, each coarser grid half that of the one before; grids that are not smaller than
    the map's height are left out.

    Args:
        student: Feature maps, ``[B, C, H, W]``, or vectors, ``[B, D]``; or several of them.
        teacher: The same shapes (put `connectors.Resize` and `Project` in the path).

    Returns:
        ``[B]``, at least 0, in squared units of the teacher, summed over the levels; 0 where the two are equal.

    Raises:
        ValueError: The shapes differ, or the numbers of levels.

    Reference:
        Chen, Liu, Zhao & Jia 2021, "Distilling Knowledge via Knowledge Review", arXiv:2104.09044 (hierarchical
        context loss), with the grids and weights of the published code.

    Example:
        >>> import torch
        >>> flat, wavy = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
        >>> hierarchical_context(flat, flat), hierarchical_context(flat, wavy)  # nothing is left of it on 1x1
        (tensor([0.]), tensor([0.6667]))
    """
    total: Tensor | float = 0.0
    for ours, theirs in levels("hierarchical_context", student, teacher):
        if ours.shape != theirs.shape:
            raise ValueError(
                f"hierarchical_context: expected features of one shape, found student {tuple(ours.shape)} and teacher "
                f"{tuple(theirs.shape)}. Put `connectors.Resize` and `Project` in this path."
            )
        total = total + _level(*(full(as_map("hierarchical_context", x)) for x in (ours, theirs.detach())))
    assert isinstance(total, Tensor)
    return total


def _level(student: Tensor, teacher: Tensor) -> Tensor:
    value, weight, weights = _mse(student, teacher), 1.0, 1.0
    for grid in GRIDS:
        if grid < student.shape[2]:
            weight /= 2
            weights += weight
            value = value + weight * _mse(*(F.adaptive_avg_pool2d(x, grid) for x in (student, teacher)))
    return value / weights


def _mse(student: Tensor, teacher: Tensor) -> Tensor:
    squares = F.mse_loss(student, teacher, reduction="none").flatten(1)
    return squares.sum(dim=1) / squares.shape[1]
