"""Names to parts: a folder's `__all__` is its catalogue, and options are checked against a part's own signature."""

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tutelage import foreign
from tutelage.errors import RecipeError, UnknownName, close_names

FOLDERS = ("losses", "weighting", "schemes", "connectors", "tasks")
_WORDS = re.compile("(?<=[a-z])(?=[A-Z][a-z])")
_NOT_PARTS = {"Weighting", "Product", "Task", "Cast", "Stage"}


def names(folder: str) -> dict[str, str]:
    """The parts of a folder: the name to write in a recipe -> the name in Python.

    Example:
        >>> "offline" in names("schemes")
        True
        >>> names("weighting")["by_gradient"]
        'ByGradient'
    """
    module = importlib.import_module(f"tutelage.{folder}")
    return {_WORDS.sub("_", name).lower(): name for name in module.__all__ if name not in _NOT_PARTS}


def part(folder: str, name: str, *, allow_import: Sequence[str] = (), where: str = "") -> Callable[..., Any]:
    """A part by its name, or by ``package.module:name`` from a package that was allowed.

    Args:
        folder: One of `FOLDERS`.
        name: As written in the recipe.
        allow_import: Packages from which foreign parts may be imported.
        where: Key of the recipe, for messages.

    Raises:
        UnknownName: There is no such part.
        InputError: The part's package was not allowed.

    Example:
        >>> part("losses", "kl").__name__
        'kl'
    """
    if ":" in name:
        foreign_part: Callable[..., Any] = foreign.load(name, allow_import, where=where)
        return foreign_part
    known = names(folder)
    python = {_plain(each): attribute for each, attribute in known.items()}.get(_plain(name))
    if python is None:
        others = [*known, *solvers()] if folder == "weighting" else known
        raise UnknownName(f"{where or folder}: there is no {_one(folder)} {name!r}; {close_names(name, others)}.")
    found: Callable[..., Any] = getattr(importlib.import_module(f"tutelage.{folder}"), python)
    return found


def solvers() -> dict[str, Callable[..., Any]]:
    """Rules over gradients, which stand for `by_gradient` with them: name -> solver.

    Example:
        >>> "mgda" in solvers()
        True
    """
    from tutelage.weighting.by_gradient import rules

    return dict(rules())


def by_gradient(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A weighting written by the name of a solver, written out: its options go to the solver, the others stay.

    Raises:
        UnknownName: An option that neither of them has.

    Example:
        >>> by_gradient({"use": "mgda", "normaliser": "l2", "every": 4})
        {'use': 'by_gradient', 'rule': {'use': 'mgda', 'normaliser': 'l2'}, 'every': 4}
        >>> by_gradient({"use": "trust"})
        {'use': 'trust'}
    """
    from tutelage.weighting import ByGradient
    from tutelage.weighting.by_gradient import named, options

    solver = named(spec["use"])
    if solver is None or _plain(spec["use"]) in map(_plain, names("weighting")):
        return dict(spec)
    known = options_of(ByGradient)
    rule = {key: value for key, value in spec.items() if key not in known}
    own = [*options(solver), *(key for key in known if key != "rule")]
    for option in rule:
        if option not in ("use", *own) and "name" not in own:  # what torchjd takes is its own business
            raise UnknownName(f"weighting: {spec['use']} has no option {option!r}; {close_names(option, own)}.")
    return {"use": "by_gradient", "rule": rule, **{key: value for key, value in spec.items() if key in known}}


def checked(found: Callable[..., Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options, if the part's signature has all of them by keyword.

    Raises:
        UnknownName: An option that the part does not have.

    Example:
        >>> checked(part("losses", "kl"), {"temprature": 4}, "paths.logits.loss")
        Traceback (most recent call last):
        tutelage.errors.UnknownName: paths.logits.loss: kl has no option 'temprature'; close: temperature.
    """
    known = options_of(found)
    for option in options:
        if option not in known:
            raise UnknownName(f"{where}: {found.__name__} has no option {option!r}; {close_names(option, known)}.")
    return dict(options)


def options_of(found: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What may be given to a part by keyword; what a path passes to a loss does not count."""
    from tutelage.path import EXTRAS

    parameters = inspect.signature(found).parameters
    return {
        name: p
        for name, p in parameters.items()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        and not (name in ("student", "teacher", "cast", "classes") or (inspect.isfunction(found) and name in EXTRAS))
    }


def made(folder: str, spec: Mapping[str, Any], *, allow_import: Sequence[str] = (), where: str = "") -> Any:
    """A part from ``{use: name, option: value, …}``: a class is called, a function gets its options.

    Raises:
        RecipeError: The part does not take these values.
    """
    options = {key: value for key, value in spec.items() if key != "use"}
    found = part(folder, spec["use"], allow_import=allow_import, where=where)
    options = checked(found, options, where)
    if ":" in spec["use"] and inspect.isclass(found):
        mend = "Mend it, or give it other options"
        return foreign.called(f"{where}: {spec['use']}", lambda: found(**options), RecipeError, mend=mend)
    try:
        if inspect.isclass(found):
            return found(**options)
        return functools.partial(found, **options) if options else found
    except UnknownName as error:
        raise UnknownName(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {spec['use']} does not take these options: {error}") from error


def _plain(name: str) -> str:
    """A name as it is compared: capitals and underscores do not count."""
    return name.lower().replace("_", "")


def _one(folder: str) -> str:
    return {"losses": "loss", "weighting": "weighting", "schemes": "scheme"}.get(folder, folder.rstrip("s"))
