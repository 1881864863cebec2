"""Comparative distillation: how any two samples differ, to either network."""

import torch
from torch import Tensor

from .precision import full, widest
from .shapes import positive, same_batch
from .together import together


@together
def comparative(student: Tensor, teacher: Tensor, /, *, temperature: float = 4.0) -> Tensor:
    """Divergence between softened differences of logits, over all pairs of the batch, times T².

    From n answers of a teacher it makes n² comparisons. The softmax of a difference is a product of one factor for each
    sample, over a sum that is a matrix product: so it holds a few ``B * B`` numbers, and no ``B * B * C``.

    What a class has more in one sample of the batch than in another counts up to 600 T, whatever it is.

    Args:
        student: Logits or vectors, ``[B, C]``; others are flattened.
        teacher: As wide as the student.
        temperature: T > 0, what the differences are divided by.

    Returns:
        ``[B]``, in nats times T², at least 0: the mean over each anchor's B - 1 differences with the others; 0 where
        the two agree up to one shift for all samples, and for a batch of one.

    Raises:
        ValueError: The shapes differ, or `temperature` is not positive.

    Reference:
        After Wilf et al. 2023, arXiv:2311.02253. Deviation: all pairs of the batch are compared, where the paper
        draws groups of cached answers and compares their means; the exact form of its loss was not verified.

    Example:
        >>> import torch
        >>> x = torch.eye(3)
        >>> comparative(x, x + torch.tensor([1.0, 2.0, 3.0])), comparative(x, 2 * x) > 0
        (tensor([0., 0., 0.]), tensor([True, True, True]))
    """
    same_batch("comparative", student, teacher)
    positive("comparative", temperature=temperature)
    student, teacher = full(student).flatten(1), full(teacher.detach()).flatten(1)
    if student.shape != teacher.shape:
        raise ValueError(
            f"comparative: expected vectors of one width, found {student.shape[1]} and {teacher.shape[1]}. Put "
            "`connectors.Project` in this path."
        )
    with torch.autocast(student.device.type, enabled=False):  # matrix products would drop to half precision
        ours, theirs = ((x - x.detach().mean(dim=0)) / temperature for x in map(widest, (student, teacher)))
        _, _, _, log_ours = _factors(ours)
        first, second, total, log_theirs = _factors(theirs)
        off = theirs - ours
        expected = ((first * off) @ second.mT - first @ (second * off).mT) / total
        divergence = (temperature**2 * (expected - log_theirs + log_ours)).clamp(min=0).to(student.dtype)
    return divergence.sum(dim=1) / max(len(student) - 1, 1)


def _factors(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of ``exp(x_i - x_j)``: each sample's factors ``[B, C]``, the sums over classes ``[B, B]``, their logarithms."""
    least = -600.0 if x.dtype == torch.float64 else -60.0  # where a first factor is 1, the sum is above 0 by this
    highest, lowest = x.detach().amax(dim=1, keepdim=True), x.detach().amin(dim=1, keepdim=True)
    first, second = (x - highest).exp(), (lowest - x).clamp(min=least).exp()
    total = first @ second.mT
    return first, second, total, highest - lowest.mT + total.log()
