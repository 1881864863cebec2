"""Comparative distillation: how any two samples differ, to either network."""

from torch import Tensor

from .precision import full
from .shapes import positive, same_batch
from .together import together


@together
def comparative(student: Tensor, teacher: Tensor, /, *, temperature: float = 4.0) -> Tensor:
    """Divergence between softened differences of logits, over all pairs of the batch, times T².

    From n answers of a teacher it makes n² comparisons. Holds ``B * B * C`` numbers.

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
    log_prob, target = (((x[:, None] - x) / temperature).log_softmax(dim=2) for x in (student, teacher))
    divergence = temperature**2 * (target.exp() * (target - log_prob)).sum(dim=2)
    return divergence.sum(dim=1) / max(len(student) - 1, 1)
