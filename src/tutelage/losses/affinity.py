"""FAKD: match which positions (or channels, or samples) have like features."""

from typing import Literal

import torch
from torch import Tensor

from .maps import Features, levels, need_maps
from .precision import full
from .shapes import same_batch

_EPS = 1e-8  # added to lengths, as in the authors' code


def affinity(
    student: Features, teacher: Features, /, *, over: Literal["positions", "channels", "samples"] = "positions"
) -> Tensor:
    """Mean absolute difference of the matrices of cosines, summed over levels.

    Over positions, the matrix of one sample is (H·W)²: 2304² numbers, 21 MB, for a 48 x 48 map. Take smaller patches
    where that is too much.

    Args:
        student: Feature maps, ``[B, C_s, H, W]``, of one level or several.
        teacher: Feature maps, ``[B, C_t, H, W]``, of as many. Over positions the grid has to be the same, over channels
            the channels, over samples neither.
        over: What is compared with what. Over samples a row of the matrix of inner products is scaled to unit length,
            so what is matched are its proportions.

    Returns:
        ``[B]``, in [0, 2] for each level; 0 where the affinities agree.

    Raises:
        ValueError: Shapes do not go together, numbers of levels differ, or `over` is none of the three.

    Reference:
        He, Dai, Lu, Jiang & Xia 2020, "FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
        Super-Resolution", ICIP. It takes three levels with a weight of 10 beside `l1` on pictures in 0…255.

    Example:
        >>> import torch
        >>> apart, alike = torch.eye(4).reshape(1, 4, 2, 2), torch.ones(1, 3, 2, 2)
        >>> affinity(apart, 7 * apart), affinity(apart, alike)
        (tensor([0.]), tensor([0.7500]))
    """
    if over not in ("positions", "channels", "samples"):
        raise ValueError(f"affinity: expected over='positions', 'channels' or 'samples', found {over!r}.")
    values = []
    for ours, theirs in levels("affinity", student, teacher):
        need_maps("affinity", ours, theirs, grid=over == "positions", channels=over == "channels")
        same_batch("affinity", ours, theirs)
        with torch.autocast(ours.device.type, enabled=False):  # a matrix product would drop to half precision
            difference = _cosines(full(ours), over) - _cosines(full(theirs.detach()), over)
        values.append(difference.abs().flatten(1).mean(dim=1))
    return sum(values[1:], values[0])


def _cosines(x: Tensor, over: str) -> Tensor:
    if over == "samples":
        products = x.flatten(1) @ x.flatten(1).mT
        shares: Tensor = products / products.norm(dim=1, keepdim=True).clamp(min=1e-30)
        return shares
    vectors = x.flatten(2) if over == "channels" else x.flatten(2).mT
    directions: Tensor = vectors / (torch.linalg.vector_norm(vectors, dim=2, keepdim=True) + _EPS)
    return directions @ directions.mT
