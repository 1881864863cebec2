"""``sr/NAME``: our own nets for super-resolution."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.errors import UnknownName, close_names
from tutelage.models.preprocess import Preprocess

from .. import sr
from .base import Offer, Wish


def names() -> list[str]:
    """All of `tutelage.models.sr`."""
    return list(sr.__all__)


def offer(name: str, wish: Wish) -> Offer:
    """Any size of pictures, and no classes; the sizes of the net are arguments."""
    _check(name)
    return Offer(name, {"in_channels": wish.in_channels, **wish.arguments}, Preprocess.identity(wish.in_channels))


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the function of that name."""
    _check(name)
    model: nn.Module = getattr(sr, name)(**arguments)
    return model


def _check(name: str) -> None:
    if name not in sr.__all__:
        raise UnknownName(f"there is no model 'sr/{name}'. {close_names(name, sr.__all__)}")
