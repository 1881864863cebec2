"""Soft targets: match the teacher's softened class probabilities."""

import torch
from torch import Tensor

from .precision import full
from .together import together


@together
def kl(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    temperature: float = 4.0,
    mask: Tensor | None = None,
    element_weight: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence from the student's softened class probabilities to the teacher's, times T².

    Args:
        student: Logits, ``[B, C]``, or ``[B, C, ...]`` with one prediction per position (pixels, tokens).
        teacher: Logits of the same shape.
        temperature: T > 0, what both logits are divided by; larger values stress the unlikely classes.
        mask: ``[B, ...]``, true where a position counts; None for all. The batch mean is then the mean over
            the positions that count, and 0 if none does. Not used where a sample has one prediction.
        element_weight: ``[B, ...]``, what each position is multiplied by.

    Returns:
        ``[B]``, in nats times T², at least 0: the mean over a sample's positions; 0 where the two agree.

    Raises:
        ValueError: The shapes differ, or `temperature` is not positive.

    Reference:
        Hinton, Vinyals & Dean 2015, arXiv:1503.02531, sec. 2: the soft-target term with its factor T². For
        maps, code that divides by the batch alone sums over positions: its value is H·W times ours.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> kl(sure, sure), kl(unsure, sure, temperature=1.0)
        (tensor([0.]), tensor([0.3278]))
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"kl: expected logits of one shape, found student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}. Give both the same classes (and `connectors.Resize` to maps)."
        )
    if not temperature > 0:
        raise ValueError(f"kl: expected temperature > 0, found {temperature}.")
    log_prob = (full(student) / temperature).log_softmax(dim=1)
    target = (full(teacher.detach()) / temperature).log_softmax(dim=1)
    divergence = temperature**2 * (target.exp() * (target - log_prob)).sum(dim=1)
    if element_weight is not None:
        divergence = divergence * element_weight
    if divergence.dim() == 1:
        return divergence
    if mask is None:
        return divergence.flatten(1).mean(dim=1)
    # Samples with more valid positions weigh more, so that the batch mean is a mean over valid positions.
    valid = mask.bool().expand_as(divergence)
    per_sample = torch.where(valid, divergence, 0.0).flatten(1).sum(dim=1)
    return per_sample * len(student) / valid.sum().clamp(min=1)
