"""Correlations instead of values: the teacher's order of classes in a sample, and of samples in a class."""

import torch
from torch import Tensor

from .batchwise import batchwise
from .precision import full
from .shapes import CLASSES, positive, same_shape
from .together import together


@batchwise
@together
def dist(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    temperature: float = 1.0,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
) -> Tensor:
    """One minus the correlation of class probabilities, within samples and within classes, times T².

    Args:
        student: Logits, ``[B, C]``, or ``[B, C, ...]``, where every position counts as a sample.
        teacher: Logits of the same shape.
        temperature: T > 0, what both logits are divided by.
        inter_weight: Weight of the mean over samples, correlated over the classes (the paper's β), 0 or more.
        intra_weight: Weight of the mean over classes, correlated over the batch (the paper's γ), 0 or more.

    Returns:
        ``[B]``, one value for the batch, in [0, 2 T²] times the sum of both weights; 0 where the two agree, but that
        a class which hardly varies over the batch counts as uncorrelated: of a single sample the second term is T²
        times its weight, without gradient.

    Raises:
        ValueError: The shapes differ, or an option is out of range.

    Reference:
        Huang et al. 2022, arXiv:2205.10536, sec. 4. The factor T² is that of the code; as there, 1e-8 is
        added to the product of the two norms. Published weights are 1 or 2 for each, times 2.

    Example:
        >>> import torch
        >>> x = torch.eye(3)
        >>> dist(x, x) < 1e-5, dist(x, -x).round(decimals=3)
        (tensor([True, True, True]), tensor([4., 4., 4.]))
    """
    same_shape("dist", student, teacher, CLASSES)
    positive("dist", temperature=temperature)
    if not (inter_weight >= 0 and intra_weight >= 0):
        raise ValueError(f"dist: expected weights of 0 or more, found {inter_weight} and {intra_weight}.")
    probs, targets = (
        _rows((full(x) if temperature == 1 else full(x) / temperature).softmax(dim=1))
        for x in (student, teacher.detach())
    )
    even = 1 / probs.shape[1]  # probabilities sum to 1: their mean over the classes is known
    inter = 1 - _correlation(probs - even, targets - even, dim=1).mean()
    intra = 1 - _correlation(probs - probs.mean(dim=0), targets - targets.mean(dim=0), dim=0).mean()
    value: Tensor = temperature**2 * (inter_weight * inter + intra_weight * intra)
    return value.expand(len(student))


def _rows(probs: Tensor) -> Tensor:
    """Every position a sample."""
    return probs if probs.dim() == 2 else probs.movedim(1, -1).flatten(0, -2)


def _correlation(a: Tensor, b: Tensor, *, dim: int) -> Tensor:
    """Of what has mean 0 over `dim`."""
    lengths: Tensor = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    correlation: Tensor = (a * b).sum(dim=dim) / (lengths + 1e-8)
    return correlation
