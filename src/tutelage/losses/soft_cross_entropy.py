"""Soft targets as labels: the cross-entropy with the teacher's class probabilities."""

from torch import Tensor

from .positions import over_positions
from .precision import full
from .shapes import CLASSES, positive, same_shape
from .together import together


@together
def soft_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    temperature: float = 4.0,
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the student's softened class probabilities with the teacher's, times T².

    It is `kl` plus T² times the teacher's entropy: the gradient is the same, the value is not. Where a rule weighs
    paths by their values, take `kl`.

    Args:
        student: Logits, ``[B, C]``, or ``[B, C, ...]`` with one prediction per position.
        teacher: Logits of the same shape.
        temperature: T > 0, what both logits are divided by.
        mask: ``[B, ...]``, true where a position counts; None for all. Not used where a sample has one prediction.
        element_weight: ``[B, ...]``, what each position is multiplied by.

    Returns:
        ``[B]``, in nats times T²: the mean over a sample's positions. Where the two agree it is T² times the
        teacher's entropy, not 0.

    Raises:
        ValueError: The shapes differ, or `temperature` is not positive.

    Reference:
        Hinton, Vinyals & Dean 2015, arXiv:1503.02531, sec. 2, with the factor T². Code for language models
        (TinyBERT, arXiv:1909.10351, eq. 10) has no such factor: its value is ours by T².

    Example:
        >>> import torch
        >>> unsure = torch.zeros(1, 2)
        >>> soft_cross_entropy(unsure, unsure, temperature=1.0)
        tensor([0.6931])
    """
    same_shape("soft_cross_entropy", student, teacher, CLASSES)
    positive("soft_cross_entropy", temperature=temperature)
    log_prob = (full(student) / temperature).log_softmax(dim=1)
    target = (full(teacher.detach()) / temperature).softmax(dim=1)
    return over_positions(-(temperature**2) * (target * log_prob).sum(dim=1), mask, element_weight)
