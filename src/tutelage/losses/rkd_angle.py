"""Relational distillation by angles: triplets of samples should form the angles they form to the teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import full
from .shapes import same_batch
from .unit import unit


def rkd_angle(student: Tensor, teacher: Tensor, /, *, normalise: bool = False) -> Tensor:
    """Huber distance between the cosines of the angles at each anchor, over all pairs of other samples.

    It holds ``B**3`` cosines and ``B**2`` differences of features for each network.

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
        Park et al. 2019, arXiv:1904.05068, eq. 9 to 11, with the mean over all B³ entries as in the code. Samples
        that coincide form no angle and get no gradient. Published weight: 50. Some code has `normalise`.

    Example:
        >>> import torch
        >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> rkd_angle(corner, 3 * corner.flip(1)) < 1e-6, rkd_angle(corner, torch.tensor([[0.0], [1.0], [2.0]]))
        (tensor([True, True, True]), tensor([0.1111, 0.2682, 0.0095]))
    """
    same_batch("rkd_angle", student, teacher)

    def cosines(x: Tensor) -> Tensor:
        flat = full(x).flatten(1)
        flat = unit(flat) if normalise else flat
        directions = unit(flat[None, :] - flat[:, None], dim=2)
        return directions @ directions.mT

    with torch.autocast(student.device.type, enabled=False):  # a matrix product would drop to half precision
        difference = F.smooth_l1_loss(cosines(student), cosines(teacher.detach()), reduction="none")
    return difference.mean(dim=(1, 2))
