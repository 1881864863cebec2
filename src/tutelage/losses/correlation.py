"""Correlation congruence: the kernel matrix of a batch, as the teacher has it."""

import math
from typing import Literal

import torch
from torch import Tensor

from .precision import full
from .shapes import same_batch
from .together import together
from .unit import unit


@together
def correlation(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    kernel: Literal["gaussian", "bilinear"] = "gaussian",
    gamma: float = 0.4,
    order: int = 2,
    normalise: bool = True,
    form: Literal["squared", "norm"] = "squared",
) -> Tensor:
    """Squared difference between the two batches' kernel matrices, one row per anchor sample.

    Args:
        student: Features, ``[B, ...]``.
        teacher: Features, ``[B, ...]``: width and grid may differ from the student's.
        kernel: ``"gaussian"``: ``exp(-gamma * |x - y|²)`` of unit vectors by its Taylor series in their cosine.
            ``"bilinear"``: the inner product.
        gamma: Sharpness of the Gaussian, > 0.
        order: Highest power in its series, at least 1.
        normalise: Scale every sample to unit length, which the series assumes.
        form: ``"squared"``, as the paper, or ``"norm"``, the root over the whole matrix, as some code has it; then
            each row holds its share.

    Returns:
        ``[B]``, at least 0: the mean over each anchor's row; 0 where the two agree. With ``form="norm"`` the batch
        mean is the Frobenius norm over B².

    Raises:
        ValueError: The batches differ in size, or an option is out of range.

    Reference:
        Peng et al. 2019, arXiv:1904.01802, sec. 3. Code that skips `normalise` evaluates the series where it
        is no Gaussian. Widely used code under this name computes another loss: `CC`.

    Example:
        >>> import torch
        >>> apart, alike = torch.eye(2), torch.ones(2, 3)
        >>> correlation(apart, 7 * apart), correlation(apart, alike, kernel="bilinear")
        (tensor([0., 0.]), tensor([0.5000, 0.5000]))
    """
    same_batch("correlation", student, teacher)
    if kernel not in ("gaussian", "bilinear") or form not in ("squared", "norm"):
        raise ValueError(
            "correlation: expected kernel='gaussian' or 'bilinear' and form='squared' or 'norm', found "
            f"{kernel!r} and {form!r}."
        )
    if not gamma > 0 or order < 1:
        raise ValueError(f"correlation: expected gamma > 0 and order >= 1, found {gamma} and {order}.")

    def matrix(x: Tensor) -> Tensor:
        flat = full(x).flatten(1)
        flat = unit(flat) if normalise else flat
        inner = flat @ flat.T
        if kernel == "bilinear":
            return inner
        series = torch.zeros_like(inner)
        for power in range(order, -1, -1):
            series = series * inner + math.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power)
        return series

    with torch.autocast(student.device.type, enabled=False):  # a matrix product would drop to half precision
        rows = (matrix(student) - matrix(teacher.detach())).square()
    if form == "squared":
        return rows.mean(dim=1)
    total = rows.sum()
    norm = torch.where(total > 0, total, 1.0).sqrt()
    return rows.mean(dim=1) / norm
