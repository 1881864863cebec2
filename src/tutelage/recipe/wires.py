"""Wires: from the short names of paths (`logits`, `pooled`, … or a loss) to paths with taps and connectors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import nn

from tutelage.errors import RecipeError, UnknownName, close_names
from tutelage.ledger import Batch
from tutelage.pairing import Pair, between, pair, vectors
from tutelage.survey import Site, site_of, survey
from tutelage.taps import RMS
from tutelage.tasks.base import Task

from . import catalogue
from .places import OPTIONS, place_of, taps_at
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


ANY_SHAPES = (
    *("cc", "correlation", "pkt", "rkd_angle", "rkd_distance", "similarity"),
    *("crcd", "crd", "ft", "irg", "ofd", "reviewkd", "semckd", "vid"),
)
"""Losses that compare samples with each other, or learn a connector of their own."""

ANY_WIDTHS = (
    *("affinity", "attention", "channel_statistics", "dpk", "fgd", "ifvd", "mgd", "nst", "pairwise", "pisr"),
    *("self_attention", "token_relations"),
)
"""Losses that need no equal channels."""

ANY_GRIDS = ("factor", "fsp", "kdsvd", "nst")
"""Losses that bring two grids together themselves, or need none."""


def survey_all(models: Mapping[str, nn.Module], task: Task, batch: Batch) -> dict[str, Sites]:
    """Every place of every model where a tensor can be read, from one forward each."""
    return {
        name: survey(model, lambda model=model: task.call(model, batch), entry=task.entry(model))  # type: ignore[misc]
        for name, model in models.items()
    }


Wired = Callable[[str], Mapping[str, Mapping[str, Any]] | None]
"""What a short name means for a task, `Task.wires`."""


def resolve(
    recipe: Recipe, sites: Mapping[str, Sites], wired: Wired | None = None
) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe with every path, tap and connector written out, and the table of what was paired.

    Args:
        recipe: As the user wrote it.
        sites: ``"student"`` and the teachers' names -> places, from `survey_all`.
        wired: What short names mean for the task, where that is special.

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
            own = None if wired is None else wired(short)
            if own is not None:
                if not own:
                    raise RecipeError(_unpaired(short, PartSpec(use=short)))
                paths |= {name: _filled(name, PathSpec(**spec), sites, teachers) for name, spec in own.items()}
            elif short in SHORT:
                paths |= _from_short(short, sites["student"], teachers)
            else:
                paths |= _from_loss(short, sites, teachers, recipe.data.batch_size)
    return recipe.model_copy(update={"paths": paths}), _table(paths, sites)


def unheard(paths: Mapping[str, PathSpec], teachers: Iterable[str]) -> list[str]:
    """The teachers that no path names."""
    return [
        name
        for name in teachers
        if not any(
            (spec.teachers is None or name in spec.teachers)
            and (not isinstance(spec.teacher, dict) or name in spec.teacher)
            for spec in paths.values()
        )
    ]


def standing(names: Sequence[str], sites: Mapping[str, Sites]) -> list[str]:
    """Short names that nobody chose, with vectors in place of stages where no stages pair."""
    student = sites["student"]
    paired = any(pair(student, places) for name, places in sites.items() if name != "student")
    return ["pooled" if name == "attention" and not paired else name for name in names]


def _from_short(short: str, student: Sites, teachers: Mapping[str, Sites]) -> dict[str, PathSpec]:
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


def _from_loss(
    short: str, sites: Mapping[str, Sites], teachers: Mapping[str, Sites], batch_size: int
) -> dict[str, PathSpec]:
    """The paths of a loss that is named alone, at the place where it belongs."""
    losses = catalogue.names("losses")
    if short.lower() not in losses:
        known = [*SHORT, *losses]
        raise UnknownName(f"paths: there is no short name and no loss {short!r}; {close_names(short, known)}.")
    short = short.lower()
    part = catalogue.part("losses", short)
    options = dict(OPTIONS.get(short, {}))
    if "batch_size" in catalogue.options_of(part):
        options["batch_size"] = batch_size
    loss = PartSpec(use=short, **options)
    found = taps_at(place_of(short, part), sites["student"], teachers)
    if not found:
        raise RecipeError(_unpaired(short, loss))
    several = len(found) > 1
    return {
        f"{short}_{str(ours).replace('.', '_')}" if several else short: _filled(
            short, PathSpec(loss=loss, student=ours, teacher=theirs), sites, teachers
        )
        for ours, theirs in found
    }


def _unpaired(short: str, loss: PartSpec) -> str:
    return (
        f"paths: nothing in the student could be paired with a teacher for {short!r}. Name the taps yourself: "
        f"paths: {{{short}: {{loss: {loss.use}, student: TAP, teacher: TAP}}}} (see tutelage inspect)."
    )


def _path(short: str, loss: PartSpec, pairs: Mapping[str, Pair]) -> PathSpec:
    if not pairs:
        raise RecipeError(_unpaired(short, loss))
    connectors = {name: _connector(short, pair_) for name, pair_ in pairs.items()}
    asked = RMS if short == "attention" else ""  # all that it takes of a teacher, and small enough for a store
    return PathSpec(
        loss=loss,
        student=next(iter(pairs.values())).student,
        teacher={name: pair_.teacher + asked for name, pair_ in pairs.items()},
        connector={name: parts for name, parts in connectors.items() if parts} or None,
    )


def _connector(short: str, pair_: Pair) -> list[PartSpec]:
    """What goes between."""
    return [PartSpec(use=part) for part in _needed(SHORT[short]["use"], pair_.connector)]


def _needed(loss: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Of the connectors between two taps, those that this loss cannot do without."""
    if loss.lower() in ANY_SHAPES:
        return ()
    spared = ["project"] * (loss.lower() in ANY_WIDTHS) + ["resize"] * (loss.lower() in ANY_GRIDS)
    return tuple(part for part in parts if part not in spared)


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
        pairs = _pairs(spec, teacher)
        named = spec.teachers is None or teacher in spec.teachers
        # A tap that does not exist is refused with the closest names when the path is built.
        if (
            named
            and pairs
            and all(site_of(sites["student"], ours or "") and site_of(places, theirs or "") for ours, theirs in pairs)
        ):
            connectors[teacher] = [PartSpec(use=part) for part in _through(name, spec, teacher, pairs, sites)]
    connectors = {teacher: parts for teacher, parts in connectors.items() if parts}
    return spec.model_copy(update={"connector": connectors or None})


def _pairs(spec: PathSpec, teacher: str) -> list[tuple[str | None, str | None]]:
    """Taps of the student beside those of a teacher, None where one side has more; empty if it is not heard."""
    taps = spec.teacher.get(teacher) if isinstance(spec.teacher, dict) else spec.teacher
    if taps is None:
        return []
    ours, theirs = ([tap] if isinstance(tap, str) else tap for tap in (spec.student, taps))
    return list(zip_longest(ours, theirs))


def _through(
    name: str, spec: PathSpec, teacher: str, pairs: list[tuple[str | None, str | None]], sites: Mapping[str, Sites]
) -> tuple[str, ...]:
    """The connectors that lead from every tap of a path to the teacher's."""
    found: set[tuple[str, ...]] = set()
    for ours, theirs in pairs:
        here, there = site_of(sites["student"], ours or ""), site_of(sites[teacher], theirs or "")
        assert here is not None
        assert there is not None
        parts = between(here, there)
        if parts is None:
            raise RecipeError(
                f"path {name!r}: no connector leads from {ours!r} {list(here.shape)} to {theirs!r} "
                f"{list(there.shape)} of teacher {teacher!r}. Name other taps, or a connector."
            )
        found.add(_needed(spec.loss.use, parts))
    needed = {part for parts in found for part in parts}
    if len(found) > 1 and "tokens" in needed:
        ways = ", ".join(sorted(" > ".join(parts) or "none" for parts in found))
        raise RecipeError(
            f"path {name!r}: its taps need different connectors for teacher {teacher!r} ({ways}), and one stands for "
            "all. Name it, or make two paths."
        )
    return next(iter(found)) if len(found) == 1 else tuple(p for p in ("pool", "resize", "project") if p in needed)


def _table(paths: Mapping[str, PathSpec], sites: Mapping[str, Sites]) -> list[dict[str, Any]]:
    """One row for each pair of taps; of several, the n-th of both sides stand beside each other."""
    rows = []
    for name, spec in paths.items():
        for teacher in (t for t in sites if t != "student" and (spec.teachers is None or t in spec.teachers)):
            parts: Any = spec.connector.get(teacher, []) if isinstance(spec.connector, dict) else spec.connector or []
            for ours, theirs in _pairs(spec, teacher):
                row = {
                    "path": name,
                    "loss": spec.loss.use,
                    "student": _named(ours),
                    "student_shape": _shape(sites["student"], ours),
                    "connector": " > ".join(part.use for part in parts) or "-",
                    "teacher_name": teacher,
                    "teacher": _named(theirs),
                    "teacher_shape": _shape(sites[teacher], theirs),
                }
                rows.append(row)
    return rows


def _named(tap: str | None) -> str:
    return "-" if tap is None else tap or "(output)"


def _shape(places: Sites, tap: str | None) -> list[int] | None:
    site = None if tap is None else site_of(places, tap)
    return None if site is None else list(site.shape)
