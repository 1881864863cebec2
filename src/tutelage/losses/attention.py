"""Attention transfer: match where the feature maps look, not what they hold."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from .precision import full
from .together import together


@together
def attention(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    power: float = 2.0,
    form: Literal["squared", "norm"] = "squared",
    signed: bool = False,
    eps: float = 0.0,
) -> Tensor:
    """Distance between unit-length spatial attention maps.

    The attention of one sample is the channel sum of ``|x| ** power``, flattened over the grid and scaled to
    unit length. Tokens are positions, a class token among them.

    Args:
        student: Feature maps, ``[B, C_s, H, W]``, or tokens, ``[B, T, C_s]``.
        teacher: Feature maps, ``[B, C_t, H, W]``, or tokens, ``[B, T, C_t]``: channels may differ, the grid may
            not (put `connectors.Resize` or `connectors.Tokens` in the path).
        power: At least 1. Larger values keep only the strongest positions.
        form: ``"squared"`` distance, or its square root, the ``"norm"`` of the paper's equation.
        signed: Take ``x ** power`` without the absolute value, as widely used code does: odd powers differ.
        eps: Added to the length by which an attention map is divided; some code has 1e-6.

    Returns:
        ``[B]``, at most 2 (or its root) unless `signed`; 0 where both maps look at the same places.

    Raises:
        ValueError: The grids differ, or an option is out of range.

    Reference:
        Zagoruyko & Komodakis 2017, arXiv:1612.03928, eq. 2, without the factor β/2 and, by default, with the
        norm squared. The widely used code averages over the H·W positions where we sum: its weight is
        H·W times ours.

    Example:
        >>> import torch
        >>> corner = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]]]])
        >>> attention(corner, 5 * corner), attention(corner, corner.flip(3))
        (tensor([0.]), tensor([2.]))
    """
    channels = {3: 2, 4: 1}.get(student.dim(), 0)
    grids = [[*x.shape[:channels], *x.shape[channels + 1 :]] for x in (student, teacher)]
    if not channels or student.dim() != teacher.dim() or grids[0] != grids[1]:
        raise ValueError(
            f"attention: expected maps [B, C, H, W] with one grid, or as many tokens [B, T, C], found student "
            f"{tuple(student.shape)} and teacher {tuple(teacher.shape)}. Put `connectors.Resize` (or `Tokens`) in "
            "this path."
        )
    if power < 1 or (signed and power != int(power)):
        raise ValueError(f"attention: expected power >= 1, and a whole number if signed, found {power}.")
    if form not in ("squared", "norm"):
        raise ValueError(f"attention: expected form='squared' or 'norm', found {form!r}.")

    def looks(x: Tensor) -> Tensor:
        x = full(x) if signed or power % 2 == 0 else full(x).abs()
        positions = x.pow(power).sum(dim=channels).flatten(1)
        return F.normalize(positions, dim=1) if eps == 0 else positions / (positions.norm(dim=1, keepdim=True) + eps)

    difference = looks(student) - looks(teacher.detach())
    return difference.norm(dim=1) if form == "norm" else difference.square().sum(dim=1)
