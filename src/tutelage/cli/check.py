"""Check: score the teachers, print guesses and pairing, train nothing."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from . import runfolder
from .prepare import gather, prepare, say, show_pairing, show_teachers


def check(
    recipe: str | pathlib.Path | Mapping[str, Any] | None = None,
    *,
    student: Any = None,
    teachers: Sequence[Any] | Mapping[str, Any] = (),
    data: Any = None,
    out: str | pathlib.Path | None = None,
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
        out: Where the run is to go; refused as `distill` would refuse it, and left as it is.
        assignments: ``key.sub=value``, as after ``--set``.
        force: Do not refuse a teacher near chance.
        allow_import: Packages from which models and parts may be imported.
        **keys: Any top-level key of a recipe.

    Returns:
        ``{"data", "notes", "teachers": {name: {"validation", "notes"}}, "pairing", "recipe"}``.
    """
    if out is not None:
        runfolder.claim(pathlib.Path(out), resume=False)
    raw, live = gather(recipe, student=student, teachers=teachers, data=data, assignments=assignments, keys=keys)
    prepared = prepare(raw, live, allow_import=allow_import, force=force)
    show_teachers(prepared)
    if not prepared.examined:
        say("  no teacher was given: nothing to score and nothing to pair")
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
