"""Relational distillation by angles: triplets of samples should form the angles they form to the teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .gram import gram, squared_distances
from .precision import full
from .shapes import same_batch
from .unit import unit


def rkd_angle(student: Tensor, teacher: Tensor, /, *, normalise: bool = False) -> Tensor:
    """Huber distance between the cosines of the angles at each anchor, over all pairs of other samples.

    It holds ``B**3`` cosines for each network.

    Args:
        student: Features, ``[B, ...]``.
        teacher: Features, ``[B, ...]``: width and grid may differ from the student's.
        normalise: First scale every sample to unit length.

    Returns:
        ``[B]``, in [0, 1.5]: the mean over the B² pairs at each anchor, those with the anchor itself included,
        which hold 0; 0 where the two agree and for a batch of one.

    Raises:
        ValueError: The batches differ in size.

    Reference:
        Park et al. 2019, arXiv:1904.05068, sec. 3.2.2, with the mean over all B³ entries as in the code. Samples
        that coincide (closer than 4e-7 of their distance to the batch's mean) form no angle and get no gradient.
        Published weight: 50. Some code has `normalise`.

    Example:
        >>> import torch
        >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> rkd_angle(corner, 3 * corner.flip(1)) < 1e-6, rkd_angle(corner, torch.tensor([[0.0], [1.0], [2.0]]))
        (tensor([True, True, True]), tensor([0.1111, 0.2682, 0.0095]))
    """
    same_batch("rkd_angle", student, teacher)

    few = student[0].numel() <= 2 * len(student), teacher[0].numel() <= 2 * len(teacher)
    ours, theirs = (
        (_by_directions if short else _by_products)(full(x).flatten(1), normalise)
        for x, short in zip((student, teacher.detach()), few, strict=True)
    )
    return F.smooth_l1_loss(ours, theirs, reduction="none").sum(dim=(1, 2)) / len(student) ** 2


def _by_directions(x: Tensor, normalise: bool) -> Tensor:
    """The cosines from ``B * B`` directions; where vectors are short."""
    x = unit(x) if normalise else x
    away = x[None] - x[:, None]
    own = (x - x.mean(dim=0)).detach().square().sum(dim=1)
    directions = away * _inverse(away.square().sum(dim=2), own)[:, :, None]
    with torch.autocast(x.device.type, enabled=False):
        return directions @ directions.mT


def _by_products(x: Tensor, normalise: bool) -> Tensor:
    """The same from inner products."""
    inner = gram(unit(x) if normalise else x)
    own = inner.diagonal()
    # (x_j - x_i) @ (x_k - x_i), one matrix [j, k] for each anchor i.
    products = (inner - inner[:, :, None] - inner[:, None, :] + own[:, None, None]).to(x.dtype)
    inverse = _inverse(squared_distances(inner), own, inner.dtype).to(x.dtype)
    return products * inverse[:, :, None] * inverse[:, None, :]


def _inverse(squared: Tensor, own: Tensor, precision: torch.dtype = torch.float64) -> Tensor:
    """One over the distance of each pair; 0 where two samples coincide, as far as the precision tells."""
    apart = squared > 500 * torch.finfo(precision).eps * (own[:, None] + own)
    found: Tensor = torch.where(apart, torch.where(apart, squared, 1.0).rsqrt(), 0.0)
    return found
