"""Soft targets: match the teacher's softened class probabilities."""

from torch import Tensor

from .positions import over_positions
from .precision import full
from .shapes import CLASSES, positive, same_shape
from .standardise import Spread, standardised
from .together import together


@together
def kl(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    temperature: float = 4.0,
    standardise: Spread | None = None,
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence from the student's softened class probabilities to the teacher's, times T².

    Args:
        student: Logits, ``[B, C]``, or ``[B, C, ...]`` with one prediction per position (pixels, tokens).
        teacher: Logits of the same shape.
        temperature: T > 0, what both logits are divided by; larger values stress the unlikely classes.
        standardise: First bring both logits to mean 0 and deviation 1 over the classes, so that the student
            need not match their size: the ``"population"`` deviation of the paper, or the ``"sample"``
            deviation (C - 1) of its code, which goes with T = 2 and a weight of 9.
        mask: ``[B, ...]``, true where a position counts; None for all. The batch mean is then the mean over
            the positions that count, and 0 if none does. Not used where a sample has one prediction.
        element_weight: ``[B, ...]``, what each position is multiplied by.

    Returns:
        ``[B]``, in nats times T², at least 0: the mean over a sample's positions; 0 where the two agree.

    Raises:
        ValueError: The shapes differ, or an option is out of range.

    Reference:
        Hinton, Vinyals & Dean 2015, arXiv:1503.02531, sec. 2: the soft-target term with its factor T². For
        maps, code that divides by the batch alone sums over positions: its value is H·W times ours.
        `standardise`: Sun et al. 2024, arXiv:2403.01427, algorithm 1.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> kl(sure, sure), kl(unsure, sure, temperature=1.0)
        (tensor([0.]), tensor([0.3278]))
    """
    same_shape("kl", student, teacher, CLASSES)
    positive("kl", temperature=temperature)
    log_prob, target = (
        (standardised("kl", full(logits), standardise) / temperature).log_softmax(dim=1)
        for logits in (student, teacher.detach())
    )
    divergence = temperature**2 * (target.exp() * (target - log_prob)).sum(dim=1)
    return over_positions(divergence, mask, element_weight)
