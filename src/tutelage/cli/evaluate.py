"""Evaluate: the metrics of a model on a data set's test split."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tutelage.data import Splits
from tutelage.engine.evaluate import answer
from tutelage.errors import InputError
from tutelage.models.class_order import learned, match
from tutelage.models.folder import is_folder
from tutelage.recipe import schema
from tutelage.recipe.build import Live, build_data, build_loader, build_task

from . import runfolder
from .prepare import chosen, open_model, refuse_unlabelled
from .show import say

OTHER_CUT = (
    "this is not the cut of the run (other data, data that changed, or other options): among the samples scored here "
    "may be some that the run was trained on. The run's own data are cut as it cut them, wherever they lie now; of "
    "other data, a test split that they bring is scored whole."
)


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

    A run folder's model is evaluated on the very splits of its run where the data are the run's own, by their
    fingerprint; where they are not, a note says that it may have been trained on some of the samples. Classes that the
    data has in another order than the model are matched by name.

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
    live = {} if isinstance(data, str | pathlib.Path) else {"data": data}
    use = f"live:{type(data).__name__}" if live else str(data)
    given = {"use": use, **_given(image_size, seed, assignments)}
    run = _run(model, given, task, live, allow_import)
    recipe = chosen(_recipe(run, given, task, labelled=split == "train"), live)
    if run is not None and run.splits is not None and recipe.data == run.recipe.data:
        splits = run.splits
    else:
        splits = build_data(recipe, live, allow_import)
    say(splits.guess)
    notes = [*splits.notes]
    if run is not None and run.cut(split, splits):
        say("the cut is that of the run")
    elif run is not None and split != "train":
        notes.append(OTHER_CUT)
    for note in notes:
        say(f"  {note}")
    refuse_unlabelled(splits, split)
    part, meant = getattr(splits, split), build_task(recipe, splits, allow_import)
    classes = len(meant.classes) or None
    network = open_model(model, shape=part.shape, classes=classes, allow_import=allow_import, task=meant)
    if (matched := match(network, learned(model), splits.classes)) is not None:
        say(f"  {matched}")
        notes.append(matched)
    if _untrained(model, network):
        say("  no weights were given, so the model is untrained. Give them as MODEL@WEIGHTS.")
    said = answer(network, meant, build_loader(recipe.data, splits, split, clean=True))
    described = {**said.metrics, **meant.describe(said.kept)}
    described.pop("agreement", None)
    return {"split": split, "samples": len(said.index), "notes": notes, **described}


def _given(image_size: int | None, seed: int | None, assignments: Sequence[str]) -> dict[str, Any]:
    """What the options say of the data."""
    given = {"image_size": image_size, "seed": seed}
    raw: dict[str, Any] = {"data": {name: value for name, value in given.items() if value is not None}}
    for assignment in assignments:
        if not assignment.startswith("data."):
            raise InputError(f"--set {assignment!r}: expected data.KEY=value, which is all that evaluation knows.")
        schema.assign(raw, assignment)
    found: dict[str, Any] = raw["data"]
    return found


@dataclass(frozen=True)
class _Run:
    """The run that made a model, and the data at hand.

    Args:
        recipe: The run's, for the data at hand.
        splits: The data cut as the run cut its own; None where they are others, or have changed.
        there: Whether they lie where the run's own lay.
    """

    recipe: schema.Recipe
    splits: Splits | None
    there: bool

    def cut(self, split: str, splits: Splits) -> bool:
        """Whether a split has the very samples that it had in the run."""
        return self.splits is not None and torch.equal(getattr(self.splits, split).index, getattr(splits, split).index)


def _run(
    model: Any, given: Mapping[str, Any], task: str | None, live: Live, allow_import: Sequence[str]
) -> _Run | None:
    """The run that made a model; None where none did, or one of another task."""
    folder = _folder(model)
    if folder is None:
        return None
    run = schema.parse(runfolder.recipe_of(folder))
    if task not in (None, run.task.use):
        return None
    where = {name: given[name] for name in ("use", "root") if name in given}
    here = run.model_copy(update={"data": run.data.model_copy(update=where)})
    there = pathlib.Path(run.data.use).resolve() == pathlib.Path(given["use"]).resolve()
    try:
        splits = build_data(here, live, allow_import)
    except InputError:  # data that cannot be opened in this way are not the run's
        return _Run(here, None, there)
    return _Run(here, splits if owns(folder, splits) else None, there)


def owns(run: pathlib.Path, splits: Splits) -> bool:
    """Whether data are those of a run folder, by their fingerprint."""
    own: bool = runfolder.began(run).get("fingerprints", {}).get("data") == splits.fingerprint
    return own


def _folder(model: Any) -> pathlib.Path | None:
    """The run folder that a model lies in; None where it lies in none."""
    if not isinstance(model, str | pathlib.Path) or not is_folder(model):
        return None
    place = pathlib.Path(model).absolute()
    above = place.parent.parent if place.parent.name == "pupils" else place.parent
    return next((folder for folder in (place, above) if (folder / "recipe.yaml").is_file()), None)


def _recipe(run: _Run | None, given: Mapping[str, Any], task: str | None, *, labelled: bool) -> schema.Recipe:
    """How the data is opened and cut: as in the run where it is the run's, or lies where that lay."""
    raw: dict[str, Any] = {"data": dict(given), "student": "cifar/resnet8"}
    if run is not None and (run.splits is not None or run.there):
        hidden = {"labels": None} if labelled else {}
        raw["data"] = {**run.recipe.data.model_dump(), **hidden, **given}
    if run is not None:
        raw["task"] = run.recipe.task.as_dict()
    elif task is not None:
        raw["task"] = task
    return schema.parse(raw)


def _untrained(model: Any, network: nn.Module) -> bool:
    origin = network.__dict__["origin"]
    named = isinstance(model, str | pathlib.Path) and not is_folder(model)
    return named and origin["library"] != "factory" and origin["weights"] is None
