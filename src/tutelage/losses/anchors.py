"""Means over the anchors, or places, at which a dense detector answers."""

from typing import Literal

import torch
from torch import Tensor


def objects(logits: Tensor, scores: Literal["sigmoid", "softmax"] = "sigmoid") -> Tensor:
    """The largest score of a class at each anchor, ``[B, A]``; column 0 is the background, or stands empty.

    Example:
        >>> objects(torch.tensor([[[9.0, 0.0, -4.0]]]))
        tensor([[0.5000]])
    """
    found = logits.sigmoid() if scores == "sigmoid" else logits.softmax(dim=2)
    return found[..., 1:].amax(dim=2)


def average(values: Tensor, weight: Tensor) -> Tensor:
    """Values ``[B, A]`` averaged with weights ``[B, A]`` over all anchors of a batch, split among its samples, ``[B]``.

    Returns:
        Their batch mean is the weighted mean over all anchors; 0 where every weight is 0.

    Example:
        >>> average(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        tensor([1., 3.])
    """
    total = weight.sum().clamp(min=torch.finfo(weight.dtype).eps)
    return (weight * values).sum(dim=1) * len(weight) / total
