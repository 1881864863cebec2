"""Absolute differences: what pictures are compared by in super-resolution."""

from torch import Tensor

from .precision import full
from .shapes import FEATURES, same_shape
from .together import together


@together
def l1(student: Tensor, teacher: Tensor, /) -> Tensor:
    """Mean absolute difference over all elements of a sample.

    Args:
        student: ``[B, ...]``: pictures, maps or vectors.
        teacher: The same shape (put `connectors.Project`, `Resize` or `Regressor` in the path).

    Returns:
        ``[B]``, at least 0, in units of the teacher; 0 where the two are equal.

    Raises:
        ValueError: The shapes differ.

    Reference:
        He, Dai, Lu, Jiang & Xia 2020, "FAKD", ICIP: the student's picture against the teacher's, weighed 0.5 beside
        0.5 for the true one.

    Example:
        >>> import torch
        >>> l1(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 4.0], [0.0, 0.0]]))
        tensor([1., 0.])
    """
    same_shape("l1", student, teacher, FEATURES)
    return (full(student) - full(teacher.detach())).abs().flatten(1).mean(dim=1)
