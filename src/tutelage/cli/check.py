"""Check: score the teachers, print guesses and pairing, train nothing."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.losses.temperature import suggest
from tutelage.models import parameters

from . import runfolder
from .gather import gather
from .prepare import Prepared, prepare
from .show import say, show_pairing, show_teachers


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
        ``{"data", "notes", "teachers": {name: {"validation", "notes"}}, "pairing", "temperatures", "recipe"}``.
        `temperatures` are suggestions, path -> teacher -> temperature, for paths with softened answers.
    """
    if out is not None:
        runfolder.claim(pathlib.Path(out), resume=False)
    raw, live = gather(recipe, student=student, teachers=teachers, data=data, assignments=assignments, keys=keys)
    return tell(prepare(raw, live, allow_import=allow_import, force=force))


def tell(prepared: Prepared) -> dict[str, Any]:
    """What was found before the first batch: for people on standard error, and as `check` returns it."""
    show_teachers(prepared)
    if not prepared.examined:
        say("  no teacher was given: nothing to score and nothing to pair")
    show_pairing(prepared)
    temperatures = suggested(prepared)
    for path, each in temperatures.items():
        told = ", ".join(f"{temperature:g} for {teacher}" for teacher, temperature in each.items())
        say(f"  path {path}: a temperature to try: {told}")
    return {
        "data": prepared.splits.guess,
        "notes": prepared.splits.notes,
        "teachers": {
            name: {"validation": found.validation, "notes": list(found.notes)}
            for name, found in prepared.examined.items()
        },
        "pairing": prepared.pairing,
        "temperatures": temperatures,
        "recipe": prepared.recipe.model_dump(mode="json"),
    }


SOFTENED = ("kl", "soft_cross_entropy", "dkd", "nkd")
"""Losses that take the softmax of both networks' logits over a temperature."""


def suggested(prepared: Prepared) -> dict[str, dict[str, float]]:
    """A temperature for each path with softened answers and each of its teachers."""
    paths, found = prepared.recipe.paths, {}
    assert isinstance(paths, dict)
    size = parameters(prepared.cast(prepared.recipe.train.seed).model("student"))
    for name, spec in paths.items():
        if spec.loss.use not in SOFTENED or spec.student or spec.loss.as_dict().get("standardise"):
            continue
        each = {
            teacher: suggest(examined.softness, capacity=size / parameters(prepared.teachers[teacher]))
            for teacher, examined in prepared.examined.items()
            if examined.softness and (spec.teachers is None or teacher in spec.teachers)
        }
        if each:
            found[name] = each
    return found
