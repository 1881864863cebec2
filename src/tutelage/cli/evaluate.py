"""Evaluate: the metrics of a model on a data set's test split."""

import pathlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from tutelage.data import Loader
from tutelage.engine.evaluate import answer, describe_answers
from tutelage.errors import InputError
from tutelage.models.folder import is_folder
from tutelage.recipe import schema
from tutelage.recipe.build import build_data
from tutelage.tasks import Classification

from .prepare import open_model, say


def evaluate(
    model: Any,
    *,
    data: Any,
    split: str = "test",
    image_size: int | None = None,
    seed: int | None = None,
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
        assignments: ``data.key=value``, as after ``--set``.
        allow_import: Packages from which models may be imported.

    Returns:
        ``{"split", "samples", "accuracy", "ece", "nll", "per_class", "confusion"}``.

    Raises:
        InputError: The model does not answer for the classes of the data.
    """
    if split not in ("test", "selection", "train"):
        raise InputError(f"--split: expected test, selection or train, found {split!r}.")
    named = isinstance(data, str | pathlib.Path)
    spec = _data(model, str(data) if named else f"live:{type(data).__name__}", image_size, seed, assignments)
    splits = build_data(spec, {} if named else {"data": data}, allow_import)
    say(splits.guess)
    part = getattr(splits, split)
    network = open_model(model, shape=part.shape, classes=len(splits.classes), allow_import=allow_import)
    if _untrained(model, network):
        say("  no weights were given, so the model is untrained. Give them as MODEL@WEIGHTS.")
    task = Classification(splits.classes)
    loader = Loader(part, batch_size=512, seed=0, augment=None, shuffle=False, drop_last=False)
    said = answer(network, task, loader)
    described = describe_answers(said, task)
    described.pop("agreement")
    return {"split": split, "samples": len(said.target), **described}


def _data(
    model: Any, use: str, image_size: int | None, seed: int | None, assignments: Sequence[str]
) -> schema.DataSpec:
    """How the data is opened and cut: as in the run that made the model, where it is the run's data."""
    raw: dict[str, Any] = {"data": {"use": use}, "student": "cifar/resnet8"}
    for folder in (pathlib.Path(model), pathlib.Path(model).parent) if isinstance(model, str | pathlib.Path) else ():
        if is_folder(model) and (folder / "recipe.yaml").is_file():
            trained_on = schema.parse(schema.read(folder / "recipe.yaml")).data
            if trained_on.use == use or pathlib.Path(trained_on.use).resolve() == pathlib.Path(use).resolve():
                raw["data"] = {**trained_on.model_dump(), "use": use, "labels": None}
                say("the cut is that of the run")
            break
    given = {"image_size": image_size, "seed": seed}
    raw["data"] |= {name: value for name, value in given.items() if value is not None}
    for assignment in assignments:
        if not assignment.startswith("data."):
            raise InputError(f"--set {assignment!r}: expected data.KEY=value, which is all that evaluation knows.")
        schema.assign(raw, assignment)
    return schema.parse(raw).data


def _untrained(model: Any, network: nn.Module) -> bool:
    origin = network.__dict__["origin"]
    named = isinstance(model, str | pathlib.Path) and not is_folder(model)
    return named and origin["library"] != "factory" and origin["weights"] is None
