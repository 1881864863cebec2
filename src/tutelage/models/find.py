"""Finding a model by what the user wrote: ``[NAME=]MODEL[@WEIGHTS]``."""

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import InputError, UnknownName, close_names
from . import cifar
from .preprocess import Preprocess


@dataclass(frozen=True)
class Named:
    """A model as it was written down.

    Args:
        name: What it is called in recipes and reports.
        source: What `find` takes.
        weights: A file of weights, or None.
    """

    name: str
    source: str
    weights: str | None = None


def parse(text: str) -> Named:
    """Read ``[NAME=]MODEL[@WEIGHTS]``. Looks at nothing but the text.

    Args:
        text: What the user wrote.

    Returns:
        Its parts. Without a name, one is made of the model's last part.

    Raises:
        InputError: A part is empty, or the name is not made of letters, digits, ``_`` and ``-``.

    Example:
        >>> parse("big=cifar/resnet56@big.safetensors")
        Named(name='big', source='cifar/resnet56', weights='big.safetensors')
        >>> parse("timm/resnet50.a1_in1k").name, parse("runs/wide/student").name, parse("mylab.nets:tiny").name
        ('resnet50_a1_in1k', 'wide', 'tiny')
    """
    found = re.fullmatch(r"(?:(?P<name>[^=/@:]*)=)?(?P<source>[^@]+)(?:@(?P<weights>.+))?", text.strip())
    if found is None:
        raise InputError(f"expected a model as [NAME=]MODEL[@WEIGHTS], found {text!r}.")
    name = found["name"] if found["name"] is not None else _slug(found["source"])
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(
            f"expected a name of letters, digits, _ and - before '=', found {name!r} in {text!r}."
        )
    return Named(name, found["source"], found["weights"])


def find(
    source: str | nn.Module,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    input_size: tuple[int, int] | None = None,
    weights: str | pathlib.Path | None = None,
    allow_import: Sequence[str] = (),
    seed: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    if isinstance(source, nn.Module):
        return adopt(source, in_channels=in_channels)
    library, _, name = source.partition("/")
    if library != "cifar":
        raise UnknownName(f"there is no model {source!r}. {close_names(source, names())}")
    if name not in cifar.__all__:
        raise UnknownName(f"there is no model {source!r}. {close_names(source, names())}")
    with _seeded(seed):
        model: nn.Module = getattr(cifar, name)(num_classes=num_classes or 10, in_channels=in_channels)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model


def adopt(model: nn.Module, *, in_channels: int = 3) -> nn.Module:
    """Give a live module the two things every model carries, where it lacks them."""
    kind = type(model)
    if getattr(model, "preprocess", None) is None:
        model.__dict__["preprocess"] = Preprocess.identity(in_channels)
    if getattr(model, "origin", None) is None:
        name = f"{kind.__module__}:{kind.__qualname__}"
        model.__dict__["origin"] = {"library": "module", "name": name, "arguments": {}, "weights": None}
    return model


def names(prefix: str = "") -> list[str]:
    """Models that can be found by name and start with `prefix`."""
    return sorted(name for name in (f"cifar/{net}" for net in cifar.__all__) if name.startswith(prefix))


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Initial weights that depend on the seed alone, and leave the global generator as it was."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _slug(source: str) -> str:
    parts = [part for part in re.split(r"[/:]", source) if part not in ("", ".")]
    if len(parts) > 1 and parts[-1] in ("student", "baseline"):
        parts.pop()
    return re.sub(r"[^\w-]+", "_", parts[-1]).strip("_") if parts else ""
