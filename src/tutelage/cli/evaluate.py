"""Evaluate: the metrics of a model on a data set's test split."""

import pathlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from tutelage.engine.evaluate import answer
from tutelage.errors import InputError
from tutelage.models.folder import is_folder
from tutelage.recipe import schema
from tutelage.recipe.build import build_data, build_loader, build_task

from .prepare import chosen, open_model, refuse_unlabelled
from .show import say


def evaluate(
    model: Any,
    *,
    data: Any,
    split: str = "test",
    image_size: int | None = None,
    seed: int | None = None,
    task: str | None = None,
    assignments: Sequence[str] = (),
    allow_import: Sequence[str] = (),
) -> dict[str, Any]:
    """Metrics of a model on one split.

    A run folder's model is evaluated on the very splits of its run where the data is the run's own.

    Args:
        model: A run folder, a model's string, or a module.
        data: A path or name, or a data set of ``(picture, label)``.
        split: ``test``, ``selection`` or ``train``.
        image_size: Side of the pictures, where files differ in size.
        seed: Of the cut, where the data brings no such split; if None, that of the run, else 0.
        task: Its name; if None, that of the run, else guessed from the data.
        assignments: ``data.key=value``, as after ``--set``.
        allow_import: Packages from which models may be imported.

    Returns:
        ``{"split", "samples", "notes", …}`` with the task's metrics and what it tells beside them; of classification
        ``accuracy``, ``ece``, ``nll``, ``per_class`` and ``confusion``.

    Raises:
        InputError: The model does not answer for the classes of the data, or no sample of the split has a label.
    """
    if split not in ("test", "selection", "train"):
        raise InputError(f"--split: expected test, selection or train, found {split!r}.")
    named = isinstance(data, str | pathlib.Path)
    live = {} if named else {"data": data}
    recipe = _recipe(model, str(data) if named else f"live:{type(data).__name__}", image_size, seed, assignments, task)
    recipe = chosen(recipe, live)
    splits = build_data(recipe, live, allow_import)
    say(splits.guess)
    for note in splits.notes:
        say(f"  {note}")
    refuse_unlabelled(splits, split)
    part, meant = getattr(splits, split), build_task(recipe, splits, allow_import)
    classes = len(meant.classes) or None
    network = open_model(model, shape=part.shape, classes=classes, allow_import=allow_import, task=meant)
    if _untrained(model, network):
        say("  no weights were given, so the model is untrained. Give them as MODEL@WEIGHTS.")
    said = answer(network, meant, build_loader(recipe.data, splits, split, clean=True))
    described = {**said.metrics, **meant.describe(said.kept)}
    described.pop("agreement", None)
    return {"split": split, "samples": len(said.index), "notes": splits.notes, **described}


def _recipe(
    model: Any, use: str, image_size: int | None, seed: int | None, assignments: Sequence[str], task: str | None
) -> schema.Recipe:
    """How the data is opened and cut: as in the run that made the model, where it is the run's data."""
    raw: dict[str, Any] = {"data": {"use": use}, "student": "cifar/resnet8"}
    for folder in (pathlib.Path(model), pathlib.Path(model).parent) if isinstance(model, str | pathlib.Path) else ():
        if is_folder(model) and (folder / "recipe.yaml").is_file():
            run = schema.parse(schema.read(folder / "recipe.yaml"))
            raw["task"] = run.task.as_dict()
            if run.data.use == use or pathlib.Path(run.data.use).resolve() == pathlib.Path(use).resolve():
                raw["data"] = {**run.data.model_dump(), "use": use, "labels": None}
                say("the cut is that of the run")
            break
    if task is not None:
        raw["task"] = task
    given = {"image_size": image_size, "seed": seed}
    raw["data"] |= {name: value for name, value in given.items() if value is not None}
    for assignment in assignments:
        if not assignment.startswith("data."):
            raise InputError(f"--set {assignment!r}: expected data.KEY=value, which is all that evaluation knows.")
        schema.assign(raw, assignment)
    return schema.parse(raw)


def _untrained(model: Any, network: nn.Module) -> bool:
    origin = network.__dict__["origin"]
    named = isinstance(model, str | pathlib.Path) and not is_folder(model)
    return named and origin["library"] != "factory" and origin["weights"] is None
