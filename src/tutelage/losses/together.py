"""Losses that can hear several teachers in one call."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_Loss = TypeVar("_Loss", bound=Callable[..., Any])


def together(loss: _Loss) -> _Loss:
    """Mark a function that `torch.func.vmap` can take over teachers, so that a path may call it once for all of them.

    What it computes of the student alone is then computed once, however many teachers there are. It may not look at
    values (``if mask.any()``) or write in place. Losses that are not marked are called once a teacher.

    Example:
        >>> @together
        ... def gap(student, teacher):
        ...     return (student - teacher).square().flatten(1).mean(dim=1)
        >>> hears_together(functools.partial(gap)), hears_together(lambda student, teacher: student)
        (True, False)
    """
    loss.__dict__["together"] = True
    return loss


def hears_together(loss: Callable[..., Any]) -> bool:
    """Whether a loss, with or without options bound to it, is marked."""
    return marked(loss, "together")


def marked(loss: Callable[..., Any], mark: str) -> bool:
    """Whether a loss carries a mark, also where some of its options were given by `functools.partial`."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return bool(getattr(loss, mark, False))
