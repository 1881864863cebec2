"""Wires: from the short names of paths (`logits`, `pooled`, `features` …) to paths with taps and connectors."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.errors import RecipeError, UnknownName, close_names
from tutelage.ledger import Batch
from tutelage.pairing import Pair, between, pair, vectors
from tutelage.taps import Site, survey
from tutelage.tasks.base import Task

from .schema import PartSpec, PathSpec, Recipe

Sites = Mapping[str, Site]

SHORT: dict[str, dict[str, Any]] = {
    "logits": {"use": "kl"},
    "pooled": {"use": "mse", "standardise": True},
    "contrast": {"use": "crd"},
    "features": {"use": "mse", "standardise": True},
    "attention": {"use": "attention"},
    "similarity": {"use": "similarity"},
}
"""Short name -> its loss. `logits` reads outputs, `pooled` and `contrast` the vectors before the classifiers, the
others paired stages of the networks: `features` and `attention` one path a stage, `similarity` the deepest."""

ANY_SHAPES = ("cc", "correlation", "crd", "pkt", "rkd_angle", "rkd_distance", "similarity")
"""Losses that compare samples with each other, or learn their own embedding: they need no connector."""

ANY_WIDTHS = ("attention", "pairwise")
"""Losses that compare positions: they need one grid, but no equal channels."""


def survey_all(models: Mapping[str, nn.Module], task: Task, batch: Batch) -> dict[str, Sites]:
    """Every place of every model where a tensor can be read, from one forward each."""
    return {name: survey(model, lambda model=model: task.call(model, batch)) for name, model in models.items()}  # type: ignore[misc]


def resolve(recipe: Recipe, sites: Mapping[str, Sites]) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe with every path, tap and connector written out, and the table of what was paired.

    Args:
        recipe: As the user wrote it.
        sites: ``"student"`` and the teachers' names -> places, from `survey_all`.

    Raises:
        UnknownName: A short name that does not exist.
        RecipeError: Nothing could be paired for a path that needs it.
    """
    teachers = {name: places for name, places in sites.items() if name != "student"}
    paths: dict[str, PathSpec] = {}
    if not teachers:
        return recipe.model_copy(update={"paths": {}}), []
    if isinstance(recipe.paths, dict):
        paths = {name: _filled(name, spec, sites, teachers) for name, spec in recipe.paths.items()}
    else:
        for short in recipe.paths:
            paths |= _from_short(short, sites["student"], teachers)
    return recipe.model_copy(update={"paths": paths}), _table(paths, sites)


def _from_short(short: str, student: Sites, teachers: Mapping[str, Sites]) -> dict[str, PathSpec]:
    if short not in SHORT:
        raise UnknownName(f"paths: there is no short name {short!r}; {close_names(short, SHORT)}.")
    loss = PartSpec(**SHORT[short])
    if short == "logits":
        return {short: PathSpec(loss=loss, connector=None)}
    if short in ("pooled", "contrast"):
        found = {name: vectors(student, places) for name, places in teachers.items()}
        pairs = {name: pair_ for name, pair_ in found.items() if pair_ is not None}
        return {short: _path(short, loss, pairs)}
    by_tap: dict[str, dict[str, Pair]] = {}
    for name, places in teachers.items():
        for pair_ in pair(student, places):
            by_tap.setdefault(pair_.student, {})[name] = pair_
    if short == "similarity":
        deepest = max(by_tap, key=lambda tap: student[tap].depth, default=None)
        return {short: _path(short, loss, by_tap.get(deepest or "", {}))}
    return {f"{short}_{tap.replace('.', '_')}": _path(short, loss, pairs) for tap, pairs in by_tap.items()}


def _path(short: str, loss: PartSpec, pairs: Mapping[str, Pair]) -> PathSpec:
    if not pairs:
        raise RecipeError(
            f"paths: nothing in the student could be paired with a teacher for {short!r}. Name the taps yourself: "
            f"paths: {{{short}: {{loss: {loss.use}, student: TAP, teacher: TAP}}}} (see tutelage inspect)."
        )
    connectors = {name: _connector(loss.use, pair_) for name, pair_ in pairs.items()}
    return PathSpec(
        loss=loss,
        student=next(iter(pairs.values())).student,
        teacher={name: pair_.teacher for name, pair_ in pairs.items()},
        connector={name: parts for name, parts in connectors.items() if parts} or None,
    )


def _connector(loss: str, pair_: Pair) -> list[PartSpec]:
    """What goes between, as far as the loss needs it."""
    parts = list(pair_.connector)
    if loss.lower() in ANY_SHAPES:
        return []
    if loss.lower() in ANY_WIDTHS:
        parts = [part for part in parts if part != "project"]
    return [PartSpec(use=part) for part in parts]


def _filled(name: str, spec: PathSpec, sites: Mapping[str, Sites], teachers: Mapping[str, Sites]) -> PathSpec:
    """A path with its connectors written out, where the recipe leaves them to us."""
    if spec.connector != "auto":
        if isinstance(spec.connector, str):
            return spec.model_copy(update={"connector": [PartSpec(use=spec.connector)]})
        return spec
    if spec.loss.use.lower() in ANY_SHAPES or not spec.student:
        return spec.model_copy(update={"connector": None})
    connectors = {}
    for teacher, places in teachers.items():
        tap = spec.teacher if isinstance(spec.teacher, str) else spec.teacher.get(teacher)
        # A tap that does not exist is refused with the closest names when the path is built.
        named = spec.teachers is None or teacher in spec.teachers
        if tap and named and tap in places and spec.student in sites["student"]:
            parts = between(sites["student"][spec.student], places[tap])
            if parts is None:
                shapes = list(sites["student"][spec.student].shape), list(places[tap].shape)
                raise RecipeError(
                    f"path {name!r}: no connector leads from {spec.student!r} {shapes[0]} to {tap!r} {shapes[1]} of "
                    f"teacher {teacher!r}. Name other taps, or a connector."
                )
            if spec.loss.use.lower() in ANY_WIDTHS:
                parts = tuple(part for part in parts if part != "project")
            connectors[teacher] = [PartSpec(use=part) for part in parts]
    connectors = {teacher: parts for teacher, parts in connectors.items() if parts}
    return spec.model_copy(update={"connector": connectors or None})


def _table(paths: Mapping[str, PathSpec], sites: Mapping[str, Sites]) -> list[dict[str, Any]]:
    rows = []
    for name, spec in paths.items():
        for teacher in (t for t in sites if t != "student" and (spec.teachers is None or t in spec.teachers)):
            tap = spec.teacher if isinstance(spec.teacher, str) else spec.teacher.get(teacher)
            if tap is None:
                continue
            parts: Any = spec.connector.get(teacher, []) if isinstance(spec.connector, dict) else spec.connector or []
            row = {
                "path": name,
                "loss": spec.loss.use,
                "student": spec.student or "(output)",
                "student_shape": _shape(sites["student"], spec.student),
                "connector": " > ".join(part.use for part in parts) or "-",
                "teacher_name": teacher,
                "teacher": tap or "(output)",
                "teacher_shape": _shape(sites[teacher], tap),
            }
            rows.append(row)
    return rows


def _shape(places: Sites, tap: str) -> list[int] | None:
    return list(places[tap].shape) if tap in places else None
