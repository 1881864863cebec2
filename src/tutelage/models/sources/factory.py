"""``package.module:factory``: the user's own function or class, from a package the user allows."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.errors import InputError, ModelError, UnknownName, close_names


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
        ModelError: The factory does not give a module.
    """
    made = load(name, allow_import)(**arguments)
    if not isinstance(made, nn.Module):
        raise ModelError(f"expected a torch.nn.Module from {name}, found {type(made).__name__}.")
    return made


def accepted(name: str, wishes: Mapping[str, Any], *, allow_import: Sequence[str]) -> dict[str, Any]:
    """Those of `wishes` that the factory has a parameter for."""
    known = inspect.signature(load(name, allow_import)).parameters
    return {key: value for key, value in wishes.items() if key in known and value is not None}


def load(name: str, allow_import: Sequence[str]) -> Any:
    """The factory itself; nothing is imported unless its top package is in `allow_import`."""
    module_name, _, path = name.partition(":")
    package = module_name.partition(".")[0]
    if package not in allow_import:
        raise InputError(
            f"{name} is code of the package {package!r}, which is not imported unless you say so: "
            f"--allow-import {package}"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InputError(f"there is no module {error.name!r} to import (for {name}).") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise UnknownName(f"{module_name} has no {path!r}. {close_names(part, vars(found))}")
        found = getattr(found, part)
    return found
