"""``package.module:factory``: the user's own function or class, from a package the user allows."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.errors import ModelError
from tutelage.foreign import called, load


def build(name: str, arguments: Mapping[str, Any], *, allow_import: Sequence[str]) -> nn.Module:
    """Import the factory and call it.

    Args:
        name: ``package.module:factory``.
        arguments: Given to it by keyword.
        allow_import: Packages that may be imported.

    Returns:
        What it made.

    Raises:
        InputError: The package is not allowed, or cannot be imported.
        ModelError: The factory fails, or does not give a module.
    """
    factory = load(name, allow_import)
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    mend = "Mend it, or give it other arguments in the recipe"
    made = called(f"{name}({given})", lambda: factory(**arguments), ModelError, mend=mend)
    if not isinstance(made, nn.Module):
        raise ModelError(f"expected a torch.nn.Module from {name}, found {type(made).__name__}.")
    return made


def accepted(name: str, wishes: Mapping[str, Any], *, allow_import: Sequence[str]) -> dict[str, Any]:
    """Those of `wishes` that the factory has a parameter for."""
    made = load(name, allow_import)
    if not callable(made):
        raise ModelError(f"expected a function or class that makes a model at {name}, found {type(made).__name__}.")
    known = inspect.signature(made).parameters
    return {key: value for key, value in wishes.items() if key in known and value is not None}
