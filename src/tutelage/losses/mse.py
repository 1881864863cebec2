"""Hints: regress the teacher's features, or its logits, value by value."""

import torch.nn.functional as F
from torch import Tensor

from .precision import full
from .together import together


@together
def mse(student: Tensor, teacher: Tensor, /, *, standardise: bool = False) -> Tensor:
    """Mean squared difference over all elements of a sample.

    Args:
        student: ``[B, ...]``: logits, vectors, tokens or maps.
        teacher: The same shape (put `connectors.Project`, `Resize` or `Regressor` in the path).
        standardise: Shift and scale each sample of the teacher to mean 0 and variance 1 over its elements,
            so that the loss has one scale whatever the teacher's activations are. The student stays as it is.

    Returns:
        ``[B]``, at least 0, in squared units of the teacher; 0 where the two are equal.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Romero et al. 2015, arXiv:1412.6550, eq. 3 (hints), with the mean over elements where the paper takes
        half the sum; Ba & Caruana 2014, arXiv:1312.6184 (logits). `standardise` is ours: a weight tuned
        for one teacher's activations does not suit another's.

    Example:
        >>> import torch
        >>> mse(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 4.0], [0.0, 0.0]]))
        tensor([2., 0.])
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"mse: expected features of one shape, found student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}. Put `connectors.Project`, `Resize` or `Regressor` in this path."
        )
    target = full(teacher.detach()).flatten(1)
    if standardise:
        target = F.layer_norm(target, target.shape[1:])
    return (full(student).flatten(1) - target).square().sum(dim=1) / target.shape[1]
