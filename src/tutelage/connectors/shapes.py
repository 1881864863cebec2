"""Shapes of one sample: a vector ``(D,)``, tokens ``(T, D)`` or a map ``(C, H, W)``."""

import math
from collections.abc import Sequence

Shape = tuple[int, ...]


def known(connector: object, side: str, given: Sequence[int] | None, told: Sequence[int] | None) -> Shape:
    """The shape given to the constructor, else the one told by `bind`.

    Raises:
        ValueError: Neither is known.
    """
    shape = told if given is None else given
    if shape is None:
        name = type(connector).__name__
        raise ValueError(
            f"{name}: the {side}'s shape is not known. Give it to the constructor, "
            f"e.g. {name}({side}=(64, 8, 8)) without the batch, or give the distiller an example batch."
        )
    return tuple(shape)


def width(shape: Shape) -> int:
    """Channels of a map, features of tokens or of a vector."""
    return shape[0] if len(shape) == 3 else shape[-1]


def square(tokens: int) -> tuple[int, int]:
    """Side of the largest square grid that many tokens can hold, and how many prefix tokens are left.

    Example:
        >>> square(197), square(64), square(261)
        ((14, 1), (8, 0), (16, 5))
    """
    side = math.isqrt(tokens)
    return side, tokens - side * side
