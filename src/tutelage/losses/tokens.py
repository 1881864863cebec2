"""What losses between tokens of transformers compare: states ``[B, T, D]`` split among heads, and which are real."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import full

SIDE = 16
"""Places of a map along one side, at most."""


def as_tokens(loss: str, x: Tensor) -> Tensor:
    """Tokens ``[B, T, D]`` as they are, maps ``[B, C, H, W]`` as one token for each place; never below float32.

    Of maps there are at most 16 x 16 places, to which larger ones are averaged: what compares all pairs of them could
    not be held otherwise.

    Raises:
        ValueError: It is neither.

    Example:
        >>> as_tokens("token_relations", torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 16, 3])
    """
    if x.dim() not in (3, 4):
        raise ValueError(
            f"{loss}: expected tokens [B, T, D] or maps [B, C, H, W], found {tuple(x.shape)}. Tap a module that gives "
            "such, or put `connectors.Tokens` in this path."
        )
    if x.dim() == 3:
        return full(x)
    grid = min(x.shape[2], SIDE), min(x.shape[3], SIDE)
    return (full(x) if grid == x.shape[2:] else F.adaptive_avg_pool2d(full(x), grid)).flatten(2).mT


def split(loss: str, x: Tensor, heads: int) -> Tensor:
    """Tokens divided among heads, ``[B, heads, T, D / heads]``.

    Raises:
        ValueError: The width is no multiple of the number of heads.

    Example:
        >>> split("self_attention", torch.ones(2, 7, 6), 3).shape
        torch.Size([2, 3, 7, 2])
    """
    if heads < 1 or x.shape[2] % heads:
        raise ValueError(f"{loss}: expected heads that divide a width of {x.shape[2]}, found {heads}.")
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def affinities(one: Tensor, other: Tensor) -> Tensor:
    """Products of all pairs of tokens over the root of the width, ``[B, heads, T, T]``."""
    products: Tensor = one @ other.mT / one.shape[-1] ** 0.5
    return products


def row_kl(student: Tensor, teacher: Tensor, real: Tensor | None) -> Tensor:
    """KL of the softmax of every row, the mean over heads and real rows, ``[B]``.

    Args:
        student: Scores ``[B, heads, T, T]``.
        teacher: The same shape.
        real: Which tokens count, bool ``[B, T]``; None for all. Others are neither compared nor looked at.
    """
    if real is not None:
        aside = ~real[:, None, None, :]
        student, teacher = (x.masked_fill(aside, torch.finfo(x.dtype).min / 2) for x in (student, teacher))
    wanted = teacher.softmax(dim=3)
    apart = (wanted * (teacher.log_softmax(dim=3) - student.log_softmax(dim=3))).sum(dim=3)
    return over_rows(apart, real)


def over_rows(values: Tensor, real: Tensor | None) -> Tensor:
    """The mean of ``[B, heads, T]`` over heads and real tokens, ``[B]``; 0 where a sample has none."""
    if real is None:
        return values.flatten(1).mean(dim=1)
    counts = real[:, None].expand_as(values).to(values.dtype)
    return (values * counts).flatten(1).sum(dim=1) / counts.flatten(1).sum(dim=1).clamp(min=1)


def real_tokens(loss: str, mask: Tensor | None, tokens: int) -> Tensor | None:
    """The mask as bool ``[B, T]``; None for one of pixels, ``[B, H, W]``, which says nothing of tokens.

    Raises:
        ValueError: It has another shape.
    """
    if mask is not None and mask.dim() == 3:
        return None
    if mask is not None and (mask.dim() != 2 or mask.shape[1] != tokens):
        raise ValueError(f"{loss}: expected a mask [B, {tokens}], found {tuple(mask.shape)}.")
    return None if mask is None else mask.bool()
