"""Build: from a recipe to what it names: task, data, models, paths, weighting, cast."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tutelage import tasks
from tutelage.cache import Record
from tutelage.data import Augmentation, Loader, Slice, Splits
from tutelage.distiller import Distiller
from tutelage.errors import ModelError, OtherClasses, RecipeError, UnknownName, close_names
from tutelage.foreign import called
from tutelage.ledger import Batch
from tutelage.models import find
from tutelage.models import parse as parse_model
from tutelage.models.class_order import learned, match
from tutelage.models.detectors import is_detector
from tutelage.models.live import copied, shown
from tutelage.path import Path
from tutelage.tasks.base import Task
from tutelage.teachers import Cached, Frozen, Teacher
from tutelage.weighting import Fixed, Product, Weighting

from . import catalogue
from .schema import DataSpec, ModelSpec, Recipe, WeightingSpec

Live = Mapping[str, Any]
"""Objects given from Python instead of names: ``"data"``, ``"student"`` and teachers by name."""


def choose_task(recipe: Recipe, live: Live) -> tuple[Recipe, str]:
    """The recipe with its task named, and what showed it; the recipe itself where it names one."""
    if recipe.task.use != "auto":
        return recipe, ""
    name, why = tasks.guess(live.get("data", recipe.data.use))
    return recipe.model_copy(update={"task": recipe.task.model_copy(update={"use": name})}), why


def task_class(recipe: Recipe, allow_import: Sequence[str] = ()) -> type[Task]:
    """The class of a recipe's task."""
    found: Any = catalogue.part("tasks", recipe.task.use, allow_import=allow_import, where="task")
    task: type[Task] = found
    return task


def data_options(spec: DataSpec, task: type[Task]) -> dict[str, Any]:
    """What a task's reader is told, if it takes it.

    Raises:
        UnknownName: A key that it does not take; the closest ones are offered.
    """
    stated = spec.model_dump(exclude={"use", "batch_size", "views", "augment"})
    takes = catalogue.options_of(task.reader).keys() - {"source", "allow_import"}
    for key, value in stated.items():
        if key not in takes and not (key in DataSpec.model_fields and value == DataSpec.model_fields[key].default):
            known = [*takes, "batch_size", "views", "augment"]
            raise UnknownName(f"data: there is no key {key!r} for {task.name}; {close_names(key, known)}.")
    return {key: value for key, value in stated.items() if key in takes}


def build_data(recipe: Recipe, live: Live, allow_import: Sequence[str] = ()) -> Splits:
    """Open the data as the recipe's task reads it, and cut it into its slices."""
    task = task_class(recipe, allow_import)
    options = data_options(recipe.data, task)
    return task.reader(live.get("data", recipe.data.use), allow_import=allow_import, **options)


def build_augment(spec: DataSpec, train: Slice) -> Augmentation | None:
    """The augmentation of the training slice.

    Raises:
        UnknownName: An augmentation of that name does not exist.
    """
    if spec.augment == "none":
        return None
    if spec.augment == "auto":
        return train.augmentation.usual(train.shape, seed=spec.seed)
    options = catalogue.checked(train.augmentation, spec.augment, "data.augment")
    made: Any = train.augmentation
    augment: Augmentation = made(**{"seed": spec.seed, **options})
    return augment


def build_task(recipe: Recipe, splits: Splits, allow_import: Sequence[str]) -> Task:
    """The task, told what the data says."""
    spec, found = recipe.task.as_dict(), task_class(recipe, allow_import)
    classes = len(splits.classes)
    stated = spec.pop("num_classes", classes)
    if stated != classes:
        raise RecipeError(f"task.num_classes: expected {classes}, as in the data; found {stated}.")
    del spec["use"]
    return found.for_data(splits, **catalogue.checked(found, spec, "task"))


def build_model(
    role: str, spec: ModelSpec, shape: tuple[int, ...], task: Task, live: Live, allow_import: Sequence[str],
    seed: int | None = None,
) -> nn.Module:  # fmt: skip
    """The network of a role, for pictures of this shape.

    A module given from Python stays as it is. A student is a copy of it, for baseline and further seeds start from it,
    too; a teacher is a copy that shares its weights, and is frozen in its place. The classes of a teacher from a folder
    are those of the data by name, unless its columns are named.

    Raises:
        ModelError: It cannot be built or copied, answers with something else, or is a student with nothing to train.
    """
    # A model whose columns are named has as many classes as its weights say.
    classes = (len(task.classes) or None) if spec.classes is None else None

    given: Any = spec.model
    if role in live:
        made = functools.partial(copied, live[role], shared=role != "student" and spec.weights is None)
        given = called(f"copying the module of {role}", made, ModelError)

    def found(columns: int | None) -> nn.Module:
        return find(
            given,
            num_classes=columns,
            in_channels=shape[0],
            input_size=(shape[1], shape[2]),
            weights=spec.weights,
            arguments={**task.arguments, **spec.arguments},
            fits=functools.partial(_fits, task, role, columns),
            new_classifier=role == "student",
            allow_import=allow_import,
            seed=seed,
        )

    try:
        model = found(classes)
    except OtherClasses as error:
        if spec.classes is not None:
            model = found(error.found)
        elif role == "student" or error.found < error.expected or is_detector(found(error.found)):
            raise
        else:
            few = error.expected if error.expected <= 12 else 3
            columns = [*map(str, range(few)), *["…"] * (few < error.expected)]
            raise ModelError(
                f"{error} Or name its columns for them, in their order: "
                f"--set 'teachers.{role}.classes=[{', '.join(columns)}]'."
            ) from error
    if role == "student" and not any(x.requires_grad for x in model.parameters()):
        raise ModelError(
            "student: expected parameters to train, found none that require gradients. Call requires_grad_() on those "
            "that are to learn."
        )
    if spec.classes is not None:
        preprocess: Any = model.preprocess
        arranged = dataclasses.replace(preprocess, classes=tuple(spec.classes))
        _check_columns(role, model, spec.classes, shape)
        model.__dict__["preprocess"] = arranged
    elif role != "student" and spec.weights is None:
        _match(model, learned(given), task.classes)
    return model


def _match(model: nn.Module, names: Sequence[str], classes: Sequence[str]) -> None:
    """Put the classes of a teacher in the order of the data's, and note it."""
    if (note := match(model, names, classes)) is not None:
        origin = model.__dict__["origin"]
        model.__dict__["origin"] = {**origin, "notes": [*origin.get("notes", ()), note]}


def _fits(task: Task, role: str, columns: int | None, output: Any, pictures: torch.Tensor) -> str | None:
    """`Task.fits`; the number of a teacher's classes is compared when it is examined, where more can be said of it."""
    if role != "student" and task.fits(output, pictures, None) is None:
        return None
    return task.fits(output, pictures, columns)


def _check_columns(role: str, model: nn.Module, columns: Sequence[int], shape: tuple[int, ...]) -> None:
    """Refuse columns that the model does not have, or that stand for two classes at once."""
    output = shown(model, torch.zeros(1, *shape))
    if not isinstance(output, torch.Tensor):
        raise RecipeError(
            f"{role}: its classes cannot be put in another order, for it answers with boxes. Take a model with the "
            "classes of the data, in their order."
        )
    width = output.shape[1]
    if len(set(columns)) < len(columns) or not all(0 <= column < width for column in columns):
        where = "student.classes" if role == "student" else f"teachers.{role}.classes"
        raise RecipeError(
            f"{where}: expected a column of the model for each class, all different and from 0 to {width - 1}; "
            f"found {list(columns)}."
        )


def build_weighting(spec: WeightingSpec, allow_import: Sequence[str]) -> Weighting:
    """A fresh weighting.

    Raises:
        UnknownName: A key that is neither `scale`, `gates` nor `use`.
    """
    options = spec.model_extra or {}
    if spec.use is not None:
        whole = catalogue.by_gradient({"use": spec.use, **options})
        made: Weighting = catalogue.made("weighting", whole, allow_import=allow_import, where="weighting")
        return made if made.kind == "scale" else Product((), [made])
    for key in options:
        raise UnknownName(f"weighting: there is no key {key!r}; {close_names(key, ('scale', 'gates', 'use'))}.")
    scales = [] if spec.scale is None else [_scale(spec.scale.as_dict(), allow_import)]
    gates = [
        catalogue.made("weighting", gate.as_dict(), allow_import=allow_import, where="weighting.gates")
        for gate in spec.gates
    ]
    return Product(scales, gates)


def _scale(spec: dict[str, Any], allow_import: Sequence[str]) -> Weighting:
    """A scale; `fixed` takes weights by path beside its own options: ``{use: fixed, base: 0.1, logits: 0.9}``."""
    if spec["use"] == "fixed":
        known = catalogue.options_of(Fixed)
        weights = {name: value for name, value in spec.items() if name not in known and name != "use"}
        spec = {name: value for name, value in spec.items() if name not in weights}
        if weights:
            spec["weights"] = {**spec.get("weights", {}), **weights}
    spec = catalogue.by_gradient(spec)
    made: Weighting = catalogue.made("weighting", spec, allow_import=allow_import, where="weighting.scale")
    return made


def build_path(name: str, spec: Any, allow_import: Sequence[str]) -> Path:
    """A path from its section of a resolved recipe."""
    from tutelage.connectors import chain

    where = f"paths.{name}"

    def connect(parts: Sequence[Any]) -> nn.Module:
        made = [
            catalogue.made("connectors", part.as_dict(), allow_import=allow_import, where=f"{where}.connector")
            for part in parts
        ]
        return made[0] if len(made) == 1 else chain(*made)

    connector: Any = None
    if isinstance(spec.connector, dict):
        connector = {teacher: connect(parts) for teacher, parts in spec.connector.items() if parts}
    elif isinstance(spec.connector, list) and spec.connector:
        connector = connect(spec.connector)
    options = spec.loss.as_dict()
    if isinstance(options.get("extractor"), str):  # a loss that looks through a third model
        named = parse_model(options["extractor"])
        options["extractor"] = find(named.source, weights=named.weights, allow_import=allow_import)
    loss = catalogue.made("losses", options, allow_import=allow_import, where=f"{where}.loss")
    return Path(loss, student=spec.student, teacher=spec.teacher, teachers=spec.teachers, connector=connector)


@dataclass
class Company:
    """The cast of one seed: what schemes ask for, built from a resolved recipe.

    Args:
        recipe: With all paths written out.
        task: The task.
        networks: The teachers' networks.
        example: A batch for the probe forward.
        samples: One more than the largest index of the training slice.
        labelled: Whether any sample of the training slice has a label.
        shape: Shape of a picture.
        seed: Of initial weights.
        live: Objects given from Python.
        allow_import: Packages from which parts may come.
        records: Answers on disk, of teachers that need not be asked.
        held_out: Gives batches of the guard's slice by number; None without one.
        fingerprints: Of teachers, data, augmentation and views, which are compared with those of the records.
    """

    recipe: Recipe
    task: Task
    networks: Mapping[str, nn.Module]
    example: Batch
    samples: int
    shape: tuple[int, int, int]
    seed: int
    labelled: bool = True
    live: Live = field(default_factory=dict)
    allow_import: Sequence[str] = ()
    records: Mapping[str, Record] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    held_out: Callable[[int], Batch] | None = None

    def model(self, role: str) -> nn.Module:
        """A fresh model of a role; the same seed gives the same weights."""
        if role != "student":
            raise UnknownName(f"scheme: there is no role {role!r} in the recipe; {close_names(role, ['student'])}.")
        spec, task = self.recipe.student, self.task
        return build_model(role, spec, self.shape, task, self.live, self.allow_import, self.seed)

    def teachers(self) -> dict[str, Teacher]:
        """The recipe's teachers."""
        return {
            name: Cached(self.records[name])
            if name in self.records
            else Frozen(network, compile=self.recipe.train.compile, offload=self.recipe.train.offload is not None)
            for name, network in self.networks.items()
        }

    def distiller(
        self,
        model: nn.Module,
        teachers: Mapping[str, Teacher],
        *,
        paths: Mapping[str, Path] | None = None,
        weighting: Weighting | None = None,
    ) -> Distiller:
        """The recipe's paths (or others) between a model and these teachers; plain training if there are none."""
        assert isinstance(self.recipe.paths, dict)
        with seeded(self.seed + 1):
            if paths is None:
                specs = self.recipe.paths.items() if teachers else ()
                paths = {name: build_path(name, spec, self.allow_import) for name, spec in specs}
            if weighting is None:
                weighting = build_weighting(self.recipe.weighting, self.allow_import) if teachers else Fixed()
            return Distiller(
                model,
                teachers=teachers,
                paths=paths,
                task=self.task,
                weighting=weighting,
                example=self.example,
                samples=self.samples,
                labelled=self.labelled,
                fingerprints=self.fingerprints,
                held_out=self.held_out,
                compile=self.recipe.train.compile,
            )

    def release(self, pupil: nn.Module) -> nn.Module:
        """The plain module: taps leave nothing behind, and a pupil in another network's weights gets its own."""
        alone: nn.Module = pupil.release() if hasattr(pupil, "release") else pupil  # type: ignore[operator]
        return alone.eval()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from a seed inside, and as if nothing had been drawn outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_loader(
    spec: DataSpec,
    splits: Splits,
    part: str,
    *,
    seed: int = 0,
    baseline: bool = False,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    clean: bool = False,
) -> Loader:
    """The loader of a slice: shuffled and augmented for training, in order and clean for the others.

    For the baseline each epoch shows new views. Unlabelled samples would teach it nothing: where there are any, it gets
    full batches of labelled ones, for as many steps. A `clean` loader gives the training slice as the others are given.
    """
    slice_ = getattr(splits, part)
    if part == "guard" and not clean:
        size = 1 if slice_.ragged else min(128, spec.batch_size, len(slice_))
        size = max(size - size % world, world)
        return Loader(slice_, batch_size=size, seed=seed, augment=None, rank=rank, world=world)
    if clean or part != "train":
        slice_ = slice_.whole()
        return Loader(
            slice_,
            batch_size=1 if slice_.ragged else _at_once(slice_.shape),
            seed=0,
            augment=None,
            shuffle=False,
            drop_last=False,
            workers=workers,
        )
    whole = len(slice_) // spec.batch_size
    labelled_only = baseline and not bool(slice_.labelled.all())
    return Loader(
        slice_,
        batch_size=spec.batch_size,
        seed=seed,
        augment=build_augment(spec, slice_),
        views=None if baseline else spec.views,
        labelled_only=labelled_only,
        steps_per_epoch=max(1, whole) if labelled_only else None,
        workers=workers,
        rank=rank,
        world=world,
    )


def _at_once(shape: tuple[int, int, int]) -> int:
    """Samples in a batch that is only answered: 512, or fewer of pictures larger than 64 x 64."""
    return max(1, min(512, 512 * 64**2 // (shape[1] * shape[2])))
