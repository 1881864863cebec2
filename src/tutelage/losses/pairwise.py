"""Pair-wise distillation: which places of a picture are alike."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import need_maps
from .precision import full
from .shapes import same_batch
from .together import together


@together
def pairwise(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    scale: float = 0.5,
    pool: Literal["max", "mean"] = "max",
    through_norm: bool = True,
) -> Tensor:
    """Mean squared difference of the cosines between all pairs of places.

    Both maps are first pooled into patches; a patch is a place.

    Args:
        student: Feature maps, ``[B, C_s, H, W]``.
        teacher: Feature maps, ``[B, C_t, H, W]``: channels may differ, the grid may not.
        scale: Size of a patch relative to the map, in (0, 1]. Small values give many places, and a matrix of
            ``(1 / scale)**4`` numbers for each sample.
        pool: How a patch becomes one vector.
        through_norm: Let gradient flow through the vectors' lengths.

    Returns:
        ``[B]``, in [0, 4]; 0 where the same places are alike.

    Raises:
        ValueError: The grids differ, or an option is out of range.

    Reference:
        Liu et al. 2019, arXiv:1903.04197, sec. 3.1. The code takes the lengths for constants
        (``through_norm=False``). As in the code, patches are pooled by their maximum, the last ones may be
        smaller, and 1e-8 is added to the lengths.

    Example:
        >>> import torch
        >>> apart, alike = torch.eye(4).reshape(1, 4, 2, 2), torch.ones(1, 3, 2, 2)
        >>> pairwise(apart, 7 * apart), pairwise(apart, alike)
        (tensor([0.]), tensor([0.7500]))
    """
    need_maps("pairwise", student, teacher, grid=True)
    same_batch("pairwise", student, teacher)
    if not 0 < scale <= 1 or pool not in ("max", "mean"):
        raise ValueError(f"pairwise: expected scale in (0, 1] and pool='max' or 'mean', found {scale} and {pool!r}.")
    patch = [max(1, int(side * scale)) for side in teacher.shape[2:]]

    def cosines(x: Tensor) -> Tensor:
        pooled = F.max_pool2d if pool == "max" else F.avg_pool2d
        places = pooled(full(x), patch, patch, ceil_mode=True).flatten(2)
        length = torch.linalg.vector_norm(places, dim=1, keepdim=True)
        directions: Tensor = places / ((length if through_norm else length.detach()) + 1e-8)
        return directions.mT @ directions

    with torch.autocast(student.device.type, enabled=False):  # a matrix product would drop to half precision
        return (cosines(student) - cosines(teacher.detach())).square().flatten(1).mean(dim=1)
