"""Losses that are one number for a whole batch."""

from collections.abc import Callable
from typing import Any, TypeVar

from .together import marked

L = TypeVar("L", bound=Callable[..., Any])


def batchwise(loss: L) -> L:
    """Mark a loss, function or class, whose value cannot be split among the samples.

    It returns its one value expanded to ``[B]``. Weights that differ between samples mean nothing to it: a path
    with such a loss is refused under a weighting that gives them, unless the weighting gives the row their mean.

    Example:
        >>> @batchwise
        ... def spread(student, teacher):
        ...     return (student.std() - teacher.std()).abs().expand(len(student))
        >>> is_batchwise(spread)
        True
    """
    loss.batchwise = True  # type: ignore[attr-defined]
    return loss


def is_batchwise(loss: Callable[..., Any]) -> bool:
    """Whether a loss is marked, also where some of its options were given by `functools.partial`."""
    return marked(loss, "batchwise")
