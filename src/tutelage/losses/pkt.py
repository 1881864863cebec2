"""Probabilistic knowledge transfer: whom each sample would pick as its neighbour."""

import torch
from torch import Tensor

from .precision import full
from .shapes import same_batch
from .together import together


@together
def pkt(student: Tensor, teacher: Tensor, /, *, diagonal: bool = False, eps: float = 1e-7) -> Tensor:
    """Divergence between the two networks' neighbour probabilities, one row per anchor sample.

    A sample picks another in proportion to their cosine, brought from [-1, 1] to [0, 1].

    Args:
        student: Features, ``[B, ...]``.
        teacher: Features, ``[B, ...]``: width and grid may differ from the student's.
        diagonal: Let samples pick themselves, too, as the published code does.
        eps: Added to the lengths and to both probabilities within the logarithm, 0 or more. With 0 the value is
            infinite where the student takes two samples for exact opposites.

    Returns:
        ``[B]``, in nats: the divergence of each anchor's row, at least 0 up to `eps`; 0 where the two agree and, but
        for `diagonal`, for batches of one or two.

    Raises:
        ValueError: The batches differ in size, or `eps` is negative.

    Reference:
        Passalis & Tefas 2018, arXiv:1803.10837, sec. 3, with the cosine kernel. The published code has the
        diagonal and divides by B once more: its weight of 30000, for batches of 64, is one of 30000 / 64 here.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> pkt(x, 5 * x).abs() < 1e-6, pkt(x, x[[0, 2, 1]]).round(decimals=3)
        (tensor([True, True, True]), tensor([0.2290, 0.0590, 0.0570]))
    """
    same_batch("pkt", student, teacher)
    if not eps >= 0:
        raise ValueError(f"pkt: expected eps of 0 or more, found {eps}.")

    def picks(x: Tensor) -> Tensor:
        flat = full(x).flatten(1)
        length = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        directions = flat / torch.where(length > 0, length + eps, 1.0)
        itself = torch.eye(len(x), dtype=flat.dtype, device=x.device)
        # Twice the cosines from 0 to 1, before they are shares; less 3 on the diagonal, which leaves 0 there.
        alike = torch.addmm(1 - (0 if diagonal else 3) * itself, directions, directions.T).relu()
        total = alike.sum(dim=1, keepdim=True)
        return alike / torch.where(total > 0, total, 1.0)

    with torch.autocast(student.device.type, enabled=False):  # a matrix product would drop to half precision
        prob, target = picks(student), picks(teacher.detach())
    if eps > 0:
        return (target * ((target + eps).log() - (prob + eps).log())).sum(dim=1)
    # Where the teacher's probability is 0 the term is 0, whatever the logarithm.
    heard = target > 0
    ratio = torch.where(heard, target + eps, 1.0).log() - torch.where(heard, prob + eps, 1.0).log()
    return (target * ratio).sum(dim=1)
