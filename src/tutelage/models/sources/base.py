"""Source: one library of models; Offer: what it says about a model before building it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.models.preprocess import Preprocess

FETCHING = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
    | {"weights", "weights_backbone", "use_pretrained_backbone"}
)
"""Arguments by which a library would fetch or open weights by itself."""


@dataclass(frozen=True)
class Wish:
    """What the user's data asks of a model.

    Args:
        num_classes: Columns of the output; None: as many as the library likes.
        in_channels: Channels of the pictures.
        input_size: Their height and width, where known.
        arguments: What the user gives to the library directly.
    """

    num_classes: int | None = None
    in_channels: int = 3
    input_size: tuple[int, int] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """What is known of a model before it is built.

    Args:
        name: Its name within the source.
        arguments: What the source's `build` takes, so that JSON can hold it.
        preprocess: Its normalisation, without a size.
        native: The size of pictures it was made for, if it has one.
        fixed: Whether it takes no other size.
        sized: Further arguments that would make it for the user's size.
        state: Reads weights that come with it.
    """

    name: str
    arguments: Mapping[str, Any]
    preprocess: Preprocess
    native: tuple[int, int] | None = None
    fixed: bool = False
    sized: Mapping[str, Any] = field(default_factory=dict)
    state: Callable[[], Mapping[str, Tensor]] | None = None


class Source(Protocol):
    """A module with these three functions."""

    def names(self) -> list[str]:
        """Models it can build; empty where the library is not installed."""

    def offer(self, name: str, wish: Wish) -> Offer:
        """What it says about one model; `UnknownName` if there is none of that name."""

    def build(self, name: str, arguments: Mapping[str, Any]) -> nn.Module:
        """The model with fresh weights."""


def refuse_fetching(arguments: Mapping[str, Any]) -> None:
    """Weights come from a file the user names, never from a library by itself."""
    if asked := sorted(FETCHING & set(arguments)):
        raise InputError(
            f"expected arguments that shape the model, found {', '.join(asked)}. "
            "Name a file of weights instead: MODEL@WEIGHTS."
        )
