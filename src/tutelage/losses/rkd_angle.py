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

    def cosines(x: Tensor) -> Tensor:
        x = full(x).flatten(1)
        inner = gram(unit(x) if normalise else x)
        own = inner.diagonal()
        # (x_j - x_i) @ (x_k - x_i), one matrix [j, k] for each anchor i.
        products = (inner - inner[:, :, None] - inner[:, None, :] + own[:, None, None]).to(x.dtype)
        squared = squared_distances(inner)
        apart = squared > 500 * torch.finfo(inner.dtype).eps * (own[:, None] + own)
        inverse = torch.where(apart, torch.where(apart, squared, 1.0).rsqrt(), 0.0).to(x.dtype)
        return products * inverse[:, :, None] * inverse[:, None, :]

    return F.smooth_l1_loss(cosines(student), cosines(teacher.detach()), reduction="none").mean(dim=(1, 2))
