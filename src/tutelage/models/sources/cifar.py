"""``cifar/NAME``: our own nets for small pictures."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.errors import UnknownName, close_names
from tutelage.models.preprocess import Preprocess

from .. import cifar
from .base import Offer, Wish


def names() -> list[str]:
    """All of `tutelage.models.cifar`."""
    return list(cifar.__all__)


def offer(name: str, wish: Wish) -> Offer:
    """Ten classes unless told otherwise; any size."""
    _check(name)
    classes = 10 if wish.num_classes is None else wish.num_classes
    arguments = {"num_classes": classes, "in_channels": wish.in_channels, **wish.arguments}
    return Offer(name, arguments, Preprocess.normalising(wish.in_channels))


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the function of that name."""
    _check(name)
    model: nn.Module = getattr(cifar, name)(**arguments)
    return model


def _check(name: str) -> None:
    if name not in cifar.__all__:
        raise UnknownName(f"there is no model 'cifar/{name}'. {close_names(name, cifar.__all__)}")
