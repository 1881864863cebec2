"""Similarity preservation: samples that look alike to the teacher should look alike to the student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import full
from .together import together


@together
def similarity(student: Tensor, teacher: Tensor, /) -> Tensor:
    """Squared difference between the two batches' similarity matrices, one row per anchor sample.

    A similarity matrix holds the inner products of all pairs of flattened features, each row scaled to unit
    length.

    Args:
        student: Features, ``[B, ...]``.
        teacher: Features, ``[B, ...]``: width and grid may differ from the student's.

    Returns:
        ``[B]``, at most 4/B: the mean over each anchor's row; 0 where the two agree and for a batch of one.

    Raises:
        ValueError: The batches differ in size.

    Reference:
        Tung & Mori 2019, arXiv:1907.09682, for one pair of layers. The batch mean is the published
        value, which depends on the batch size like 1/B.

    Example:
        >>> import torch
        >>> apart, alike = torch.eye(2), torch.ones(2, 3)
        >>> similarity(apart, 7 * apart), similarity(apart, alike)
        (tensor([0., 0.]), tensor([0.2929, 0.2929]))
    """
    if len(student) != len(teacher):
        raise ValueError(f"similarity: expected one batch, found {len(student)} and {len(teacher)} samples.")

    def rows(x: Tensor) -> Tensor:
        flat = full(x).flatten(1)
        return F.normalize(flat @ flat.T, dim=1)

    with torch.autocast(student.device.type, enabled=False):  # a matrix product would drop to half precision
        return (rows(student) - rows(teacher.detach())).square().mean(dim=1)
