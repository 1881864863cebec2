"""Small convex quadratic programmes, solved to rounding by an active set."""

import math

import torch
from torch import Tensor


def minimise(
    gramian: Tensor, *, pull: Tensor | None = None, upper: float = math.inf, total: float | None = None
) -> Tensor:
    """The minimum of ``x @ gramian @ x / 2 + pull @ x`` over ``0 <= x <= upper`` and, if given, ``sum(x) == total``.

    A primal active-set method: some entries rest at a bound, the others move to the best point there is without
    them, and one that rests is set free where that helps. It ends after finitely many moves. With a total it starts
    from equal entries, so that among several solutions equal gradients get equal entries.

    Args:
        gramian: Symmetric and positive semi-definite, ``[K, K]``.
        pull: In the range of `gramian` where there is no total, ``[K]``; 0 if None.
        upper: Largest entry; with a total, at least ``total / K``.
        total: What the entries sum to; None for no such condition.

    Returns:
        float64 ``[K]``, feasible to rounding.

    Example:
        >>> minimise(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), total=1.0)
        tensor([0.7500, 0.2500], dtype=torch.float64)
        >>> minimise(torch.eye(2), pull=torch.tensor([-2.0, 1.0]))
        tensor([2., 0.], dtype=torch.float64)
    """
    count = len(gramian)
    size = float(gramian.diagonal().max()) or 1.0
    square = gramian.double() / size
    linear = torch.zeros(count, dtype=torch.float64) if pull is None else pull.double() / size
    x = torch.full((count,), 0.0 if total is None else total / count, dtype=torch.float64)
    free = torch.full((count,), total is not None)
    if total is not None and upper * count <= total * (1 + 1e-12):
        return x
    for _ in range(50 * count + 100):
        move = _move(square, square @ x + linear, free, balanced=total is not None)
        room = torch.where(move < 0, -x / move, torch.where(move > 0, (upper - x) / move, math.inf))
        share = min(1.0, float(room.min()))
        x = x + share * move
        if share < 1:
            hit = free & (room <= share * (1 + 1e-12))
            x = torch.where(hit, torch.where(move < 0, 0.0 * x, upper), x)  # two plain numbers would be float32
            free &= ~hit
            continue
        released = _released(square, linear, x, free, upper, balanced=total is not None)
        if not released.any():
            break
        free |= released
    return x.clamp(0, upper)


def _move(square: Tensor, slope: Tensor, free: Tensor, *, balanced: bool) -> Tensor:
    """The shortest way of the free entries to the best point, ``[K]``; balanced: without changing their sum."""
    move = torch.zeros_like(slope)
    at = free.nonzero().flatten()
    if len(at) <= int(balanced):
        return move
    system, right = square[at][:, at], -slope[at]
    if balanced:
        system = torch.nn.functional.pad(system, (0, 1, 0, 1), value=1.0)
        system[-1, -1] = 0
        right = torch.nn.functional.pad(right, (0, 1))
    move[at] = torch.linalg.lstsq(system, right[:, None], driver="gelsd").solution[: len(at), 0]
    return move


def _released(square: Tensor, linear: Tensor, x: Tensor, free: Tensor, upper: float, *, balanced: bool) -> Tensor:
    """The entry at a bound that gains most by leaving it, or the two that gain by an exchange; none at the optimum."""
    slope = square @ x + linear
    noise = 1e-13 * (square.abs() @ x + linear.abs())
    low, high = ~free & (x < upper / 2), ~free & (x >= upper / 2)
    none = torch.zeros_like(free)
    if balanced and not free.any():
        if not (low.any() and high.any()):
            return none
        up = torch.where(low, slope, math.inf).argmin()
        down = torch.where(high, slope, -math.inf).argmax()
        if slope[down] - slope[up] > noise[up] + noise[down]:
            none[up] = none[down] = True
        return none
    level = slope[free].mean() if balanced else 0.0
    unease = noise + (noise[free].mean() if balanced else 0.0)
    gain = torch.where(low, level - slope, torch.where(high, slope - level, -math.inf)) - unease
    best = gain.argmax()
    none[best] = gain[best] > 0
    return none
