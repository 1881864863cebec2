"""Foreign: code of the user's own, named ``package.module:name``, from packages the user allows and from no others."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from .errors import InputError, TutelageError, UnknownName, close_names

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
        InputError: The package was not allowed, or there is no such module, or it cannot be imported.
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
    mend = "Mend it, or install what it needs"
    found = called(f"{asked}: importing {module_name}", lambda: _imported(module_name, asked), InputError, mend=mend)
    for part in path.split("."):
        if not hasattr(found, part):
            raise UnknownName(f"{asked}: {module_name} has no {path!r}; {close_names(part, vars(found))}.")
        found = getattr(found, part)
    return found


def called(what: str, made: Callable[[], Any], refusal: type[InputError], *, mend: str = "Mend it") -> Any:
    """What the user's own code gives; where it fails, that is theirs to mend, and told in one line.

    Args:
        what: What is called, for the message.
        made: Calls it.
        refusal: The kind of error to raise.
        mend: What to do.

    Raises:
        InputError: It failed with an error that is none of ours.

    Example:
        >>> called("mylab:two()", lambda: 2, InputError)
        2
    """
    try:
        return made()
    except TutelageError:
        raise
    except Exception as error:  # whatever the user's own code raises
        raise refusal(
            f"{what} failed with {type(error).__name__}: {error}. {mend} (--debug shows where it failed)."
        ) from error


def _imported(module: str, asked: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InputError(f"there is no module {error.name!r} to import (for {asked}).") from error
