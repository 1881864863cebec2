"""Distillation with singular vectors: match how the main directions of neighbouring layers relate."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .maps import levels, need_maps
from .precision import full

SPARE = 3
"""Vectors of the student beyond those of the teacher, among which to look for the nearest."""


def kdsvd(student: Sequence[Tensor], teacher: Sequence[Tensor], /, *, rank: int = 1) -> Tensor:
    """Squared difference between radial basis functions of the singular vectors of neighbouring layers.

    A layer's map is a matrix of positions by channels. The teacher's `rank` main right singular vectors are scaled by
    its singular values (of unit length together); the student's nearest vectors, up to sign, by the same.
    Of two neighbours, ``exp(-(v_a - v_b)² / 8)`` is taken for each channel of one and each of the other.

    Args:
        student: Feature maps of two layers or more, from shallow to deep, each ``[B, C_i, H_i, W_i]``.
        teacher: As many, each with the channels of the student's (put `connectors.Project` in the path); grids may
            differ.
        rank: Vectors of the teacher to match, at least 1.

    Returns:
        ``[B]``, at least 0: the sum over pairs of layers, channels and vectors; 0 where the student's vectors are the
        teacher's.

    Raises:
        ValueError: Fewer than two layers, not as many on both sides, other channels, or a rank below 1.

    Reference:
        Lee, Kim & Song 2018, "Self-supervised Knowledge Distillation using Singular Value Decomposition",
        arXiv:1807.06819, in the form of RepDistiller. A singular vector has no sign, but the value depends on it:
        here the largest component of each of the teacher's is positive. Gradients through singular
        vectors whose values (nearly) coincide are damped, where published code lets them grow without bound.

    Example:
        >>> layers = torch.randn(2, 6, 4, 4), torch.randn(2, 5, 2, 2)
        >>> kdsvd(layers, layers).abs().max() < 1e-6
        tensor(True)
    """
    if rank < 1:
        raise ValueError(f"kdsvd: expected rank >= 1, found {rank}.")
    both = levels("kdsvd", student, teacher, least=2)
    for ours, theirs in both:
        need_maps("kdsvd", ours, theirs, channels=True)
    with torch.autocast(both[0][0].device.type, enabled=False):
        targets = [main_directions(theirs.detach(), rank) for _, theirs in both]
        return compare([ours for ours, _ in both], targets)


def main_directions(x: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The first right singular vectors of each map, ``[B, C, rank]``, and their singular values, ``[B, rank]``."""
    _, values, vectors_t = _decomposed(_matrix(x))
    vectors = vectors_t[:, :rank].mT
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return vectors * _sign(largest), values[:, :rank]


def compare(student: Sequence[Tensor], targets: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The loss, ``[B]``, between the student's maps and the teacher's `main_directions`."""
    value = torch.zeros((), device=student[0].device)
    scaled = []
    for x, (directions, values) in zip(student, targets, strict=True):
        share = torch.nn.functional.normalize(values, dim=1)[:, None]
        scaled.append((_nearest(_vectors(x, directions.shape[2] + SPARE), directions) * share, directions * share))
    for (ours, theirs), (next_ours, next_theirs) in pairwise(scaled):
        off = _basis(next_ours, ours) - _basis(next_theirs, theirs)
        value = value + off.square().flatten(1).sum(dim=1)
    finite = torch.stack([x.isfinite().flatten(1).all(dim=1) for x in student]).all(dim=0)
    return value.where(finite, torch.nan)


def _decomposed(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values and vectors. What is not finite has none; it is set to 0 here."""
    left, values, right_t = torch.linalg.svd(x.nan_to_num(0.0, 0.0, 0.0), full_matrices=False)
    return left, values, right_t


def _vectors(x: Tensor, count: int) -> Tensor:
    vectors: Tensor = _RightVectors.apply(_matrix(x))
    return vectors[:, :, :count]


def _matrix(x: Tensor) -> Tensor:
    """Positions by channels, ``[B, HW, C]``."""
    return full(x).flatten(2).mT


def _nearest(vectors: Tensor, directions: Tensor) -> Tensor:
    """For each direction, the vector with the largest cosine, turned to its side."""
    cosines = directions.mT @ vectors
    best = cosines.detach().abs().argmax(dim=2, keepdim=True)
    chosen = vectors.gather(2, best.mT.expand(-1, vectors.shape[1], -1))
    return chosen * _sign(cosines.detach().gather(2, best)).mT


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -1.0, 1.0).to(x.dtype)


def _basis(a: Tensor, b: Tensor) -> Tensor:
    basis: Tensor = (-(a[:, :, None] - b[:, None]).square() / 8).exp()
    return basis


class _RightVectors(torch.autograd.Function):
    """Right singular vectors with a gradient that stays finite where singular values coincide or vanish."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        left, values, right_t = _decomposed(x)
        ctx.save_for_backward(left, values, right_t)
        vectors: Tensor = right_t.mT
        return vectors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        left, values, right_t = ctx.saved_tensors
        (gradient,) = gradients
        tiny = 10 * torch.finfo(values.dtype).eps
        size = values[:, :1].clamp(min=torch.finfo(values.dtype).tiny)[:, :, None]
        share = values / size[:, 0]
        turn = right_t @ gradient
        gap = share[:, None].square() - share[:, :, None].square()
        inside = share[:, :, None] * (turn - turn.mT) * gap / (gap.square() + tiny**2)
        inner = inside @ right_t
        if right_t.shape[1] < right_t.shape[2]:  # else the vectors span everything
            outside = gradient.mT - gradient.mT @ right_t.mT @ right_t
            inner = inner + (share / (share.square() + tiny**2))[:, :, None] * outside
        found: Tensor = left @ (inner / size)
        return found
