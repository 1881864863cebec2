"""Soft labels that were stored as a few classes and their probabilities: kept, and made whole again.

Stores of our own keep logits (`coding`); these are for labels of that kind which others have published.
"""

from typing import Literal

import torch
from torch import Tensor

from tutelage.errors import CacheError


def keep_top(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest classes, int64 ``[B, k]``, and their probabilities, ``[B, k]``, from the likeliest on.

    Raises:
        CacheError: There are not as many classes.

    Example:
        >>> classes, probs = keep_top(torch.tensor([[0.0, 2.0, 0.0]]), 1)
        >>> classes, probs.round(decimals=3)
        (tensor([[1]]), tensor([[0.7870]]))
    """
    if not 1 <= k <= logits.shape[1]:
        raise CacheError(f"expected 1 to {logits.shape[1]} classes to keep, found {k}.")
    probs, classes = logits.softmax(dim=1).topk(k, dim=1)
    return classes, probs


def recover(
    classes: Tensor, probs: Tensor, *, num_classes: int, rest: Literal["spread", "renormalise"] = "spread"
) -> Tensor:
    """Whole soft labels, ``[B, num_classes]``, from what was kept.

    Args:
        classes: Kept classes, int64 ``[B, k]``.
        probs: Their probabilities, ``[B, k]``. One class with probability 1 is a hard label.
        num_classes: How many classes there are.
        rest: What becomes of the probability that was not kept: ``"spread"`` evenly over all other classes, or
            given to the kept ones in proportion (``"renormalise"``).

    Raises:
        CacheError: The shapes do not fit, or a class is out of range.

    Reference:
        Shen & Xing 2022, "A Fast Knowledge Distillation Framework for Visual Recognition", arXiv:2112.01528: hard
        labels, label smoothing (k = 1), marginal smoothing and marginal renormalisation. Its code trains on them with
        the cross-entropy without a factor T². Classes here are whole numbers: kept as float16, those above 2,048
        would change.

    Example:
        >>> recover(torch.tensor([[2]]), torch.tensor([[0.5]]), num_classes=3)
        tensor([[0.2500, 0.2500, 0.5000]])
    """
    if classes.shape != probs.shape or classes.dim() != 2 or classes.shape[1] > num_classes:
        raise CacheError(
            f"expected classes and probabilities [B, k], k at most {num_classes}; found {tuple(classes.shape)} and "
            f"{tuple(probs.shape)}."
        )
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) < num_classes:
        raise CacheError(f"expected classes from 0 to {num_classes - 1}, found {int(classes.min())} or more.")
    total, missing = probs.sum(dim=1, keepdim=True), num_classes - classes.shape[1]
    if rest == "renormalise":
        return torch.zeros(len(probs), num_classes).to(probs).scatter(1, classes, probs / total)
    each = (1 - total).clamp(min=0) / max(missing, 1)
    return each.expand(-1, num_classes).scatter(1, classes, probs)
