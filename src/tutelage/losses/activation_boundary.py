"""Activation boundaries: the student's neurons should be on and off where the teacher's are."""

import torch
from torch import Tensor

from .precision import full
from .together import together


@together
def activation_boundary(student: Tensor, teacher: Tensor, /, *, margin: float = 1.0) -> Tensor:
    """Squared hinge that drives the student beyond `margin`, to the side of 0 on which the teacher is.

    Both are read *before* their ReLU (tap the normalisation in front of it). How far the teacher is from 0 does not
    matter.

    Args:
        student: Values before an activation, ``[B, ...]``.
        teacher: The same shape (put `connectors.Regressor` with ``relu=False``, or `Project`, in the path). Exactly
            0 counts as off.
        margin: How far beyond the boundary the student should be, at least 0.

    Returns:
        ``[B]``, at least 0: the *sum* over a sample's elements, so it grows with their number; 0 where every neuron
        is on its side by the margin.

    Raises:
        ValueError: The shapes differ, or the margin is negative.

    Reference:
        Heo, Lee, Yun & Choi 2019, arXiv:1811.03233, the alternative loss, for one layer. The published
        code weighs layers 1, ½, ¼ … from the last to the first and multiplies by 3/1000; give these as weights. It
        trains with this loss alone first, and with labels alone after.

    Example:
        >>> teacher = torch.tensor([[5.0, -0.1]])
        >>> activation_boundary(torch.tensor([[1.0, -1.0]]), teacher), activation_boundary(0 * teacher, teacher)
        (tensor([0.]), tensor([2.]))
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"activation_boundary: expected features of one shape, found student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}. Put `connectors.Regressor` with relu=False, or `Project`, in this path."
        )
    if margin < 0:
        raise ValueError(f"activation_boundary: expected margin >= 0, found {margin}.")
    x = full(student)
    side = torch.where(teacher.detach() > 0, -1.0, 1.0).to(x.dtype)
    return (side * x + margin).relu().square().flatten(1).sum(dim=1)
