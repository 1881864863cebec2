"""Flow of the solution procedure: match how features change from one layer to the next."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import levels, need_maps
from .precision import full


def fsp(
    student: Sequence[Tensor], teacher: Sequence[Tensor], /, *, form: Literal["average", "max"] = "average"
) -> Tensor:
    """Squared difference between the FSP matrices of neighbouring layers, summed over the pairs of neighbours.

    The FSP matrix of two layers holds, for each channel of one and each of the other, the mean over positions of
    their product. It is channels by channels, so the networks' grids may differ, their channels may not.

    Args:
        student: Feature maps of two layers or more, from shallow to deep, each ``[B, C_i, H_i, W_i]``.
        teacher: As many, each with the channels of the student's (put `connectors.Project` in the path).
        form: ``"average"``: of two neighbours the larger map is averaged down to the smaller; mean over the
            matrix of squared differences. ``"max"``: it is max-pooled, and the lengths of the
            columns (one for each channel of the deeper layer) of the difference are summed.

    Returns:
        ``[B]``, at least 0; 0 where the matrices are equal.

    Raises:
        ValueError: Fewer than two layers, not as many on both sides, other channels, or an unknown form.

    Reference:
        Yim, Joo, Bae & Kim 2017, "A Gift from Knowledge Distillation", CVPR, eq. 1 and 2, with weights of 1 and the
        mean over the matrix where the paper sums: its weight is C_i·C_{i+1} times smaller. ``"max"`` is the form of
        torchdistill, a norm instead of a square. The paper trains with this loss alone first.

    Example:
        >>> layers = torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)
        >>> fsp(layers, layers), fsp(layers, (layers[0], 2 * layers[1]))
        (tensor([0.]), tensor([1.]))
    """
    if form not in ("average", "max"):
        raise ValueError(f"fsp: expected form='average' or 'max', found {form!r}.")
    both = levels("fsp", student, teacher, least=2)
    for ours, theirs in both:
        need_maps("fsp", ours, theirs, channels=True)
    value = torch.zeros((), device=both[0][0].device)
    with torch.autocast(both[0][0].device.type, enabled=False):
        for (ours, theirs), (next_ours, next_theirs) in pairwise(both):
            off = _flow(ours, next_ours, form) - _flow(theirs.detach(), next_theirs.detach(), form)
            if form == "average":
                value = value + off.square().mean(dim=(1, 2))
            else:
                value = value + torch.linalg.vector_norm(off, dim=1).sum(dim=1)
    return value


def _flow(x: Tensor, y: Tensor, form: str) -> Tensor:
    """The FSP matrix of two layers, ``[B, C_x, C_y]``."""
    grid = min(x.shape[2], y.shape[2]), min(x.shape[3], y.shape[3])
    pool = F.adaptive_avg_pool2d if form == "average" else F.adaptive_max_pool2d
    x, y = (full(z) if z.shape[2:] == grid else pool(full(z), grid) for z in (x, y))
    return x.flatten(2) @ y.flatten(2).mT / (grid[0] * grid[1])
