"""Prepare: from a command's arguments to everything a run needs, with all that can be wrong found first."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tutelage.cache import CLEAN, Record, Store
from tutelage.data import Splits
from tutelage.distiller import Distiller
from tutelage.engine import processes
from tutelage.engine.examine import Examined, examine
from tutelage.engine.hardware import check_accelerator
from tutelage.errors import CacheError, DataError, InputError, RecipeError
from tutelage.ledger import Batch
from tutelage.models import find, map_weights
from tutelage.models import parse as parse_model
from tutelage.recipe import catalogue, schema
from tutelage.recipe.build import (
    Company,
    build_augment,
    build_data,
    build_loader,
    build_model,
    build_path,
    build_task,
    build_weighting,
    choose_task,
    data_options,
    task_class,
)
from tutelage.recipe.schema import Recipe
from tutelage.recipe.wires import resolve, standing, survey_all, unheard
from tutelage.schemes.base import Cast, Stage
from tutelage.tasks.base import Task

from .show import say, show_notes

if TYPE_CHECKING:
    from tutelage.engine.run import Plan


@dataclass(frozen=True)
class Prepared:
    """What stands when everything was checked and nothing was trained.

    Args:
        recipe: Resolved: every path written out.
        splits: The data.
        task: The task.
        teachers: Their networks.
        examined: Their scores on the selection split.
        pairing: The table of paths, taps and connectors.
        live: Objects given from Python.
        allow_import: Packages from which parts may come.
        example: The first training batch.
        store: Where the teachers' answers are kept; None: the teachers are asked live.
        records: The answers that are there.
        answering: Seconds it took to put them there.
    """

    recipe: Recipe
    splits: Splits
    task: Task
    teachers: dict[str, nn.Module]
    examined: dict[str, Examined]
    pairing: list[dict[str, Any]]
    live: Mapping[str, Any]
    allow_import: Sequence[str]
    example: Batch
    store: pathlib.Path | None = None
    records: Mapping[str, Record] = field(default_factory=dict)
    answering: float = 0.0

    def loader(self, part: str, seed: int, baseline: bool = False) -> Any:
        """The loader of a slice."""
        return build_loader(
            self.recipe.data,
            self.splits,
            part,
            seed=seed,
            baseline=baseline,
            workers=self.recipe.train.workers,
            rank=processes.rank(),
            world=processes.world(),
        )

    def plan(self, folder: pathlib.Path) -> "Plan":
        """The run, ready to go."""
        from tutelage.engine.run import Plan

        return Plan(
            folder=folder,
            task=self.task,
            cast=self.cast,
            scheme=self.scheme,
            loaders=self.loader,
            settings=self.recipe.train,
            seeds=self.recipe.seeds,
            baseline=self.recipe.baseline,
            teachers=self.teachers,
            examined=self.examined,
            input_shape=self.splits.train.shape,
            answering=self.answering,
            details={"pairing": self.pairing, "losses": {row["path"]: row["loss"] for row in self.pairing}},
        )

    def cast(self, seed: int) -> Company:
        """The cast of a seed."""
        return Company(
            recipe=self.recipe,
            task=self.task,
            networks=self.teachers,
            example=self.example,
            samples=int(torch.cat([self.splits.train.index, self.splits.guard.index]).max()) + 1,
            labelled=bool(self.splits.train.labelled.any()),
            shape=self.splits.train.shape,
            seed=seed,
            live=self.live,
            allow_import=self.allow_import,
            records=self.records,
            fingerprints=self.fingerprints,
            held_out=self.held_out(seed) if len(self.splits.guard) else None,
        )

    def held_out(self, seed: int) -> Callable[[int], Batch]:
        """The batches of the guard's slice, by number."""
        loader = self.loader("guard", seed)
        return lambda number: self.task.unpack(loader.batch(*divmod(number, len(loader))))

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of teachers, data, augmentation and views."""
        from tutelage.models import fingerprint

        augment = build_augment(self.recipe.data, self.splits.train)
        return {
            **{f"teacher {name}": fingerprint(network) for name, network in self.teachers.items()},
            "data": self.splits.train.fingerprint,
            "augment": "none" if augment is None else augment.fingerprint,
            "views": str(self.recipe.data.views or 0) if augment is not None else "0",
        }

    def first_stage(self) -> Stage:
        """The first stage, built anew and never compiled: taps, connectors, losses, weights. It may be thrown away."""
        plain = self.recipe.model_copy(update={"train": dataclasses.replace(self.recipe.train, compile=False)})
        return next(iter(self.scheme(dataclasses.replace(self, recipe=plain).cast(self.recipe.train.seed))))

    @property
    def changes_teachers(self) -> bool:
        """Whether the recipe's scheme changes its teachers, so that only these can answer."""
        scheme = catalogue.part("schemes", self.recipe.scheme.use, allow_import=self.allow_import)
        return bool(getattr(scheme, "asks_live", False))

    def scheme(self, cast: Cast) -> Iterator[Stage]:
        """The stages of the recipe's scheme."""
        made = catalogue.made("schemes", self.recipe.scheme.as_dict(), allow_import=self.allow_import, where="scheme")
        stages: Iterator[Stage] = made(cast)
        return stages


def prepare(
    raw: Mapping[str, Any],
    live: Mapping[str, Any],
    *,
    allow_import: Sequence[str] = (),
    force: bool = False,
    rehearse: bool = True,
) -> Prepared:
    """Check everything that can be checked before the first batch.

    Without a rehearsal, data and models alone are opened and looked at: what `vary` starts from.

    Raises:
        InputError: Something the user gave cannot be used.
    """
    recipe = _filled(raw, chosen(schema.parse(raw), live), allow_import)
    _check_names(recipe, allow_import)
    if rehearse:
        _check_paths(recipe)
    check_accelerator(recipe.train.accelerator)
    if recipe.data.guard is None and not recipe.teachers:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"guard": 0.0})})
    splits = build_data(recipe, live, allow_import)
    say(splits.guess)
    for note in splits.notes:
        say(f"  {note}")
    if not bool(splits.train.labelled.any()):
        recipe = _without_labels(recipe)
    for part in ("selection", "test"):
        refuse_unlabelled(splits, part)
    task = build_task(recipe, splits, allow_import)
    shape = splits.train.shape
    loader = build_loader(recipe.data, splits, "train")
    _check_shares(recipe, splits)
    student = build_model("student", recipe.student, shape, task, live, allow_import, recipe.train.seed)
    teachers = {}
    for name, spec in recipe.teachers.items():
        # A teacher brings its own number of classes, which is compared when it is examined.
        teachers[name] = build_model(name, spec, shape, task, live, allow_import)
        if recipe.train.offload is not None:
            map_weights(teachers[name], recipe.train.offload)
    for role, network in {"student": student, **teachers}.items():
        show_notes(role, network)
    example = task.unpack(loader.batch(0, 0))
    recipe, pairing = _paired(recipe, task, {"student": student, **teachers}, _two(example))

    def selection() -> Any:
        return build_loader(recipe.data, splits, "selection")

    examined = examine(teachers, task, selection, force=force, records=_heard(recipe, splits, teachers))
    opened = Prepared(recipe, splits, task, teachers, examined, pairing, live, allow_import, example)
    return _rehearsed(opened) if rehearse else opened


def _filled(raw: Mapping[str, Any], recipe: Recipe, allow_import: Sequence[str]) -> Recipe:
    """The recipe with what its task holds for good where it says nothing."""
    defaults = task_class(recipe, allow_import).defaults
    return schema.parse(schema.beside({**raw, "task": recipe.task.as_dict()}, defaults)) if defaults else recipe


def chosen(recipe: Recipe, live: Mapping[str, Any]) -> Recipe:
    """The recipe with its task named; a guess is told."""
    recipe, why = choose_task(recipe, live)
    if why:
        say(f"task: {recipe.task.use} ({why}; --task chooses another)")
    return recipe


def vary(first: Prepared, raw: Mapping[str, Any]) -> Prepared:
    """Another recipe for the data, the student and the teachers (or some) of one that is prepared.

    Nothing is opened, built or scored again.

    Raises:
        InputError: The recipe does not fit together.
    """
    recipe = schema.parse(raw)
    if recipe.task.use == "auto":
        recipe = recipe.model_copy(update={"task": recipe.task.model_copy(update={"use": first.recipe.task.use})})
    recipe = _filled(raw, recipe, first.allow_import)
    _check_names(recipe, first.allow_import)
    _check_paths(recipe)
    splits, live, allow_import = first.splits, first.live, first.allow_import
    if not bool(splits.train.labelled.any()):
        recipe = _without_labels(recipe)
    task = build_task(recipe, splits, allow_import)
    student = build_model("student", recipe.student, splits.train.shape, task, live, allow_import, recipe.train.seed)
    teachers = {name: first.teachers[name] for name in recipe.teachers}
    recipe, pairing = _paired(recipe, task, {"student": student, **teachers}, _two(first.example))
    examined = {name: first.examined[name] for name in teachers}
    changes: dict[str, Any] = {
        "recipe": recipe,
        "task": task,
        "teachers": teachers,
        "examined": examined,
        "pairing": pairing,
    }
    return _rehearsed(dataclasses.replace(first, **changes))


def _paired(
    recipe: Recipe, task: Task, models: Mapping[str, nn.Module], example: Batch
) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe with all paths written out, the task's usual ones where it names none, and the table of pairs."""
    sites = survey_all(models, task, example)
    if "paths" not in recipe.model_fields_set:
        recipe = recipe.model_copy(update={"paths": standing(task.usual_paths(models), sites)})
    recipe, pairing = resolve(recipe, sites, lambda short: task.wires(short, models, sites))
    assert isinstance(recipe.paths, dict)
    for name in unheard(recipe.paths, recipe.teachers):
        say(
            f"  teacher {name!r} is on no path and teaches nothing, unless the scheme asks it. Name a path for it, or "
            "leave it out."
        )
    return recipe, pairing


def _rehearsed(prepared: Prepared) -> Prepared:
    """The same, with every path of the first stage computed on two samples."""
    for pupil in prepared.first_stage().pupils.values():
        _rehearse(pupil, _two(prepared.example))
    return prepared


def _two(batch: Batch) -> Batch:
    """The first two samples of a batch."""
    return batch.each(lambda values: values[:2])


def _heard(recipe: Recipe, splits: Splits, teachers: Mapping[str, nn.Module]) -> dict[str, Record]:
    """The teachers' answers to the selection split, where the store that the user named has them."""
    from tutelage.models import fingerprint

    if recipe.train.cache in ("auto", "live"):
        return {}
    try:
        store = Store(recipe.train.cache)
        part = store.manifest.parts["selection"]
        records = {name: store.record(fingerprint(network)) for name, network in teachers.items()}
    except (CacheError, KeyError):  # no such store yet, or it lacks them: the teachers are asked
        return {}
    if part.fingerprint != splits.selection.fingerprint:
        return {}
    return {name: record for name, record in records.items() if CLEAN in record.views("selection")}


def _without_labels(recipe: Recipe) -> Recipe:
    """Teachers can teach without labels; a baseline has nothing to learn from."""
    if not recipe.teachers:
        raise DataError(
            "training without a teacher: expected training samples with a label, found none. Give labels, or a teacher."
        )
    if recipe.baseline:
        say("  no training sample has a label: there is no baseline, and the verdict is left out")
    return recipe.model_copy(update={"baseline": False})


def refuse_unlabelled(splits: Splits, part: str) -> None:
    """Raise a `DataError` where no sample of a slice has a label: nothing can be scored there."""
    if not bool(getattr(splits, part).labelled.any()):
        raise DataError(
            f"expected {part} samples with a label, by which models are scored, found none. Bring a {part} split that "
            "has labels; training samples need none beside a teacher."
        )


@torch.no_grad()
def _rehearse(pupil: Distiller, batch: Batch) -> None:
    """Every path once, on two samples: what cannot be computed is known before anything is written."""
    pupil.student.eval()  # it is thrown away
    said = pupil.attend(batch)
    taught = {name: teacher(batch, {}) for name, teacher in pupil.teachers.items()}
    for name, path in pupil.paths.items():
        try:
            path(said, taught, batch, pupil.spec.heads, {})
        except InputError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise RecipeError(
                f"path {name!r} cannot be computed on two samples: {str(error).rstrip('.')}. Change its options, taps "
                "or connector (--debug shows where it failed)."
            ) from error


def _check_paths(recipe: Recipe) -> None:
    """Teachers without a path would teach nothing."""
    if recipe.teachers and not recipe.paths:
        raise RecipeError(
            "paths: expected at least one path for the teachers, found none. Name some, such as "
            "--set 'paths=[logits, attention]', or train without a teacher: tutelage train."
        )


def _check_shares(recipe: Recipe, splits: Splits) -> None:
    """Processes that share a run need batches that they can share."""
    for part in ("train", "guard"):
        if len(getattr(splits, part)):
            build_loader(recipe.data, splits, part, rank=processes.rank(), world=processes.world())


def _check_names(recipe: Recipe, allow_import: Sequence[str]) -> None:
    """Misspelt parts and a last seed that is too large are refused before any data is read."""
    recipe.train.with_seed(recipe.train.seed + recipe.seeds - 1)
    data_options(recipe.data, task_class(recipe, allow_import))
    catalogue.part("schemes", recipe.scheme.use, allow_import=allow_import, where="scheme")
    build_weighting(recipe.weighting, allow_import)
    if isinstance(recipe.paths, dict):
        for name, spec in recipe.paths.items():
            bare = spec.model_copy(update={"connector": None}) if spec.connector == "auto" else spec
            build_path(name, bare, allow_import)


def open_model(
    model: Any, *, shape: tuple[int, int, int], classes: int | None, allow_import: Sequence[str], task: Task | None
) -> nn.Module:
    """A network from what stands on the command line: MODEL[@WEIGHTS], a run folder, or a module.

    Without a task, whatever it answers is accepted.
    """
    weights = None
    if not isinstance(model, nn.Module):
        named = parse_model(str(model))
        model, weights = named.source, named.weights
    found = find(
        model,
        num_classes=classes,
        in_channels=shape[0],
        input_size=shape[1:],
        weights=weights,
        arguments={} if task is None else task.arguments,
        fits=(lambda *_: None) if task is None else functools.partial(task.fits, columns=classes),
        allow_import=allow_import,
    )
    show_notes("model", found)
    return found
