"""Relational distillation by distances: samples that are far apart to the teacher should be so to the student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .gram import gram, squared_distances
from .precision import full
from .shapes import same_batch
from .unit import unit


def rkd_distance(student: Tensor, teacher: Tensor, /, *, normalise: bool = False) -> Tensor:
    """Huber distance between the two batches' pairwise distances, one row per anchor sample.

    Distances are divided by their mean over all pairs of the batch, for each network, so that their scale is left out.

    Args:
        student: Features, ``[B, ...]``.
        teacher: Features, ``[B, ...]``: width and grid may differ from the student's.
        normalise: First scale every sample to unit length.

    Returns:
        ``[B]``, at least 0: the mean over each anchor's row of B, itself included; 0 where the two agree and for a
        batch of one.

    Raises:
        ValueError: The batches differ in size.

    Reference:
        Park et al. 2019, arXiv:1904.05068, sec. 3.2.1, with the mean over all B² entries as in the code. As there,
        samples that coincide are 1e-6 apart and get no gradient. Published weight: 25. Some code has `normalise`.

    Example:
        >>> import torch
        >>> line = torch.tensor([[0.0], [1.0], [2.0]])
        >>> rkd_distance(line, 9 * line + 1), rkd_distance(line, line[[0, 2, 1]])
        (tensor([0., 0., 0.]), tensor([0.1875, 0.0938, 0.0938]))
    """
    same_batch("rkd_distance", student, teacher)

    def distances(x: Tensor) -> Tensor:
        x = full(x).flatten(1)
        apart = squared_distances(gram(unit(x) if normalise else x)).clamp(min=1e-12).sqrt()
        apart = apart.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0)
        pairs = len(x) * (len(x) - 1)
        return (apart / (apart.sum() / pairs) if pairs else apart).to(x.dtype)

    return F.smooth_l1_loss(distances(student), distances(teacher.detach()), reduction="none").mean(dim=1)
