"""Logit standardisation: compare which classes stand out, not by how much."""

from typing import Literal, get_args

import torch
from torch import Tensor

Spread = Literal["population", "sample"]


def standardised(loss: str, logits: Tensor, spread: Spread | None) -> Tensor:
    """Each sample's logits shifted to mean 0 and scaled to standard deviation 1 over the classes.

    Args:
        loss: Who asks, for messages.
        logits: ``[B, C, ...]``, float32 or float64.
        spread: ``"population"`` divides the sum of squares by C, ``"sample"`` by C - 1; None leaves all as it is.

    Raises:
        ValueError: `spread` is none of these.

    Reference:
        Sun et al. 2024, arXiv:2403.01427: algorithm 1 has the population's deviation, its code the sample's. As in
        the code, 1e-7 is added to the deviation. Equal logits become 0 with a finite gradient.

    Example:
        >>> standardised("kl", torch.tensor([[1.0, 2.0, 3.0]]), "sample")
        tensor([[-1.0000,  0.0000,  1.0000]])
    """
    if spread is None:
        return logits
    if spread not in get_args(Spread):
        raise ValueError(f"{loss}: expected standardise='population', 'sample' or None, found {spread!r}.")
    centred = logits - logits.mean(dim=1, keepdim=True)
    count = max(logits.shape[1] - (spread == "sample"), 1)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    differ = variance > 0
    deviation = torch.where(differ, torch.where(differ, variance, 1.0).sqrt(), 0.0)
    return centred / (deviation + 1e-7)
