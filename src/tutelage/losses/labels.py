"""The true class of each sample, and the logits of all the others."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

L = TypeVar("L", bound=Callable[..., Any])


def needs_labels(loss: L) -> L:
    """Mark a loss that is 0 wherever a sample has no label: a path with it is refused where none has one.

    Example:
        >>> from tutelage.losses.together import marked
        >>> @needs_labels
        ... def sure(student, teacher, *, target):
        ...     return -student.log_softmax(dim=1).gather(1, target[:, None])[:, 0] * (target >= 0)
        >>> marked(sure, "needs_labels")
        True
    """
    loss.needs_labels = True  # type: ignore[attr-defined]
    return loss


def labels(loss: str, target: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels that can be used, and what samples count.

    Args:
        loss: Who asks, for messages.
        target: Classes, int64 ``[B]``, where anything outside [0, C) means: not labelled; or a mixture of classes,
            ``[B, C]``, whose largest part is taken.
        logits: ``[B, C]``.

    Returns:
        Classes int64 ``[B]``, 0 where not labelled; and a factor ``[B]``: 0 where not labelled, otherwise such that
        the mean over the batch becomes the mean over the labelled.

    Raises:
        ValueError: Logits or target have another shape, or there are fewer than 2 classes.

    Example:
        >>> labels("dkd", torch.tensor([1, -1]), torch.zeros(2, 3))
        (tensor([1, 0]), tensor([2., 0.]))
    """
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"{loss}: expected logits [B, C] of at least 2 classes, found {tuple(logits.shape)}.")
    if target.shape == logits.shape:
        target = target.argmax(dim=1)
    if target.shape != logits.shape[:1] or target.is_floating_point():
        raise ValueError(
            f"{loss}: expected whole-numbered labels [B] or mixtures [B, C] for logits {tuple(logits.shape)}, found "
            f"{target.dtype} {tuple(target.shape)}."
        )
    known = (target >= 0) & (target < logits.shape[1])
    factor = known.to(logits.dtype) * len(known) / known.sum().clamp(min=1)
    return torch.where(known, target, 0), factor


def own_and_others(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of each sample's label ``[B]``, and all ``[B, C]``, where that of the label is too low to count.

    The label's place holds -1e30: its probability is exactly 0, and so is its gradient, and 0 times its log-probability
    is still 0, as it would not be at minus infinity.

    Example:
        >>> own, others = own_and_others(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1]))
        >>> own, others.softmax(dim=1)
        (tensor([2.]), tensor([[0.1192, 0.0000, 0.8808]]))
    """
    column = torch.arange(logits.shape[1], device=logits.device)
    own = logits.gather(1, label[:, None]).squeeze(1)
    return own, logits.masked_fill(column == label[:, None], -1e30)
