"""Check: score the teachers, print guesses and pairing, train nothing."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from .prepare import gather, prepare, show_pairing, show_teachers


def check(
    recipe: str | pathlib.Path | Mapping[str, Any] | None = None,
    *,
    student: Any = None,
    teachers: Sequence[Any] | Mapping[str, Any] = (),
    data: Any = None,
    assignments: Sequence[str] = (),
    force: bool = False,
    allow_import: Sequence[str] = (),
    **keys: Any,
) -> dict[str, Any]:
    """Everything `distill` would find out before its first batch.

    Args:
        recipe: A recipe's path or content; the other arguments win over it.
        student: A model's string or module.
        teachers: Models' strings or modules; a mapping names them.
        data: A path or name, or a data set of ``(picture, label)``.
        assignments: ``key.sub=value``, as after ``--set``.
        force: Do not refuse a teacher near chance.
        allow_import: Packages from which models and parts may be imported.
        **keys: Any top-level key of a recipe.

    Returns:
        ``{"data", "notes", "teachers": {name: {"validation", "notes"}}, "pairing", "recipe"}``.
    """
    raw, live = gather(recipe, student=student, teachers=teachers, data=data, assignments=assignments, keys=keys)
    prepared = prepare(raw, live, allow_import=allow_import, force=force)
    show_teachers(prepared)
    show_pairing(prepared)
    return {
        "data": prepared.splits.guess,
        "notes": prepared.splits.notes,
        "teachers": {
            name: {"validation": found.validation, "notes": list(found.notes)}
            for name, found in prepared.examined.items()
        },
        "pairing": prepared.pairing,
        "recipe": prepared.recipe.model_dump(mode="json"),
    }
