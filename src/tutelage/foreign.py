"""Foreign: code of the user's own, named ``package.module:name``, from packages the user allows and from no others."""

import importlib
from collections.abc import Sequence
from typing import Any

from .errors import InputError, UnknownName, close_names

OURS = frozenset({"tutelage.recipe.changed:reused_classifier", "tutelage.recipe.changed:subclasses"})
"""Factories of ours that build students which a scheme has changed. By their whole names: through its modules a package
reaches all that they import, so that no package is allowed unasked, not even this one."""


def load(name: str, allow_import: Sequence[str], *, where: str = "") -> Any:
    """What the name stands for; nothing is imported unless its top package was allowed.

    Args:
        name: ``package.module:name``, or ``package.module:name.of.its.part``.
        allow_import: Top packages that may be imported; those in `OURS` may be without.
        where: What asked for it, for messages.

    Raises:
        InputError: The package was not allowed, or there is no such module.
        UnknownName: The module holds no such name.

    Example:
        >>> load("json:loads", ["json"])("[1]")
        [1]
    """
    asked = f"{where}: {name}" if where else name
    module_name, _, path = name.partition(":")
    package = module_name.partition(".")[0]
    if package not in allow_import and name not in OURS:
        raise InputError(
            f"{asked} is code of the package {package!r}, which is not imported unless you say so: if you trust it, "
            f"add --allow-import {package}."
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InputError(f"there is no module {error.name!r} to import (for {asked}).") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise UnknownName(f"{asked}: {module_name} has no {path!r}; {close_names(part, vars(found))}.")
        found = getattr(found, part)
    return found
