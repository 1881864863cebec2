"""Gather: one recipe from a file, a command's arguments and Python's keywords."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.errors import RecipeError
from tutelage.models import parse as parse_model
from tutelage.recipe import schema


def gather(
    recipe: str | pathlib.Path | Mapping[str, Any] | None,
    *,
    student: Any = None,
    teachers: Sequence[Any] | Mapping[str, Any] = (),
    data: Any = None,
    assignments: Sequence[str] = (),
    keys: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One plain mapping from a recipe, command-line arguments and Python keywords; live objects apart.

    Later ones win: recipe, then arguments, then ``key.sub=value`` assignments.
    """
    raw: dict[str, Any] = {}
    if isinstance(recipe, Mapping):
        raw = dict(recipe)
    elif recipe is not None:
        raw = schema.read(pathlib.Path(recipe))
    live: dict[str, Any] = {}
    if data is not None:
        options = raw.get("data") if isinstance(raw.get("data"), Mapping) else {}
        live |= {} if isinstance(data, str | pathlib.Path) else {"data": data}
        raw["data"] = {**(options or {}), "use": str(data) if "data" not in live else f"live:{type(data).__name__}"}
    if student is not None:
        raw["student"] = _named(student, "student", live)[1]
    if teachers:
        given = teachers.items() if isinstance(teachers, Mapping) else ((None, teacher) for teacher in teachers)
        raw["teachers"] = {}
        for name, teacher in given:
            found, model = _named(teacher, name, live)
            if found in raw["teachers"]:
                raise RecipeError(f"two teachers are called {found!r}. Name them: --teacher NAME=MODEL[@WEIGHTS].")
            raw["teachers"][found] = model
    raw.update(keys or {})
    for assignment in assignments:
        schema.assign(raw, assignment)
    return raw, live


def _named(model: Any, name: str | None, live: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(model, nn.Module):
        name = name or type(model).__name__.lower()
        while name in live:
            name += "_"
        live[name] = model
        return name, {"model": f"live:{type(model).__name__}"}
    named = parse_model(str(model))
    return name or named.name, {"model": named.source, **({"weights": named.weights} if named.weights else {})}
