"""From one value a position to one value a sample."""

import torch
from torch import Tensor


def over_positions(values: Tensor, mask: Tensor | None, element_weight: Tensor | None) -> Tensor:
    """The mean over the positions of each sample, such that the batch mean is over all that count.

    Args:
        values: ``[B, ...]``.
        mask: ``[B, ...]``, true where a position counts; None for all. Not used where a sample has one position.
        element_weight: ``[B, ...]``, what each position is multiplied by.

    Returns:
        ``[B]``; 0 where nothing counts.

    Example:
        >>> over_positions(torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[1, 1], [1, 0]]), None)
        tensor([2., 2.])
    """
    if element_weight is not None:
        values = values * element_weight
    if values.dim() == 1:
        return values
    if mask is None:
        return values.flatten(1).mean(dim=1)
    # Samples with more valid positions weigh more, so that the batch mean is a mean over valid positions.
    valid = mask.bool().expand_as(values)
    per_sample = torch.where(valid, values, 0.0).flatten(1).sum(dim=1)
    return per_sample * len(values) / valid.sum().clamp(min=1)
