"""Export: a run's student as ONNX or as a PyTorch program, with a parity check."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tutelage.data import Slice
from tutelage.engine.evaluate import collect
from tutelage.errors import InputError, RunError
from tutelage.export import to_int8, to_onnx, to_pt2
from tutelage.export.parity import Runtime
from tutelage.ledger import Batch
from tutelage.models import find
from tutelage.models.detectors import chosen, is_detector
from tutelage.models.folder import read_config
from tutelage.recipe import schema
from tutelage.recipe.build import build_data, build_loader, build_task, choose_task, task_class
from tutelage.tasks.base import Task
from tutelage.verdict import value

from . import runfolder
from .evaluate import OTHER_CUT, owns
from .show import say

MOST = 64
"""Pictures that are compared, at most."""

RANGES = 128
"""Training pictures that the ranges of int8 are taken from, at most."""

FORMATS = {"onnx": to_onnx, "int8": to_int8, "pt2": to_pt2}


def export(
    run: str | pathlib.Path,
    *,
    format: str = "onnx",
    model: str = "student",
    most_lost: float = 0.01,
    allow_import: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a run's student in another format, and compare the two on pictures of the test split.

    The normalisation is inside: the exported model takes pictures as floats in [0, 1]. Where the run's data cannot be
    opened, such as a data set given from Python, the two are compared on noise, and that is said. That the run's
    data have changed is said of int8, whose ranges and score may then be those of other samples.

    Args:
        run: A run folder.
        format: ``onnx``, ``int8`` (the same with integers of 8 bits) or ``pt2``.
        model: ``student`` or ``baseline``.
        most_lost: Of an int8 file: by how much the task's metric on the selection split may be worse, in its own
            unit; a file that loses more is not written.
        allow_import: Packages from which models and data may be imported.

    Returns:
        The file's part of parity.json.

    Raises:
        RunError: There is no such model in the run.
        InputError: There is no such format; or int8 was asked for and the run's data cannot be opened.
        ModelError: The run's model is damaged, or the file disagrees with it or loses too much.
    """
    run = pathlib.Path(run)
    if format not in FORMATS:
        raise InputError(f"--format: expected {', '.join(FORMATS)}, found {format!r}.")
    if model not in ("student", "baseline"):
        raise InputError(f"--model: expected student or baseline, found {model!r}.")
    if not most_lost >= 0:
        raise InputError(f"--most-lost: expected 0 or more, found {most_lost}.")
    folder = run / model
    if not (folder / "config.json").exists():
        raise RunError(f"export: expected a finished run with {model}/config.json in {run}, found none.")
    config = read_config(folder)
    recipe, _ = choose_task(schema.parse(runfolder.recipe_of(run)), {})
    try:
        splits = build_data(recipe, {}, allow_import)
    except InputError as error:
        if format == "int8":
            raise InputError(f"int8 takes its ranges from the run's training pictures: {error}") from error
        say(f"the run's data cannot be opened, so the comparison is made on noise: {error}")
        shape = (config["in_channels"], *config["input_size"])
        pictures = torch.rand(MOST, *shape, generator=torch.Generator().manual_seed(0))
        task = task_class(recipe, allow_import)(config["classes"])  # type: ignore[call-arg]
    else:
        pictures, task = _spread(splits.test, MOST), build_task(recipe, splits, allow_import)
    network = find(str(folder), allow_import=allow_import).eval()
    options: dict[str, Any] = {}
    if format == "int8":
        if not owns(run, splits):
            say(f"  {OTHER_CUT}")
        loader = build_loader(recipe.data, splits, "selection")
        options = {
            "calibration": _spread(splits.train, RANGES),
            "score": lambda runtime: _score(runtime, network, task, loader),
            "higher_is_better": task.higher_is_better,
            "most_lost": most_lost,
        }
    out = run / "export" if model == "student" else run / "export" / model
    parity = FORMATS[format](  # type: ignore[operator]
        task.exported(network),
        out,
        input_shape=(pictures.shape[1], pictures.shape[2], pictures.shape[3]),
        classes=config["classes"],
        sample_inputs=pictures,
        finish=task.finish,
        agree=task.agree,
        any_size=task.any_size,
        **options,
    )
    say(
        f"{out / parity.file}: agrees with the {model} on {parity.samples} pictures (the same for "
        f"{parity.agreement:.1%}, largest difference {parity.max_difference:.2g})"
    )
    if parity.scores is not None:
        told = f"{parity.scores['file']:.4f} on the selection split, the model {parity.scores['model']:.4f}"
        say(f"  {task.metric} {told}; {(out / parity.file).stat().st_size / 1e6:.3g} MB")
    return dataclasses.asdict(parity)


def _spread(part: Slice, most: int) -> torch.Tensor:
    """Pictures from all over a slice, as floats in [0, 1]."""
    pictures = part.gather(torch.linspace(0, len(part) - 1, min(most, len(part))).long())
    return (pictures.float().div(255) if pictures.dtype == torch.uint8 else pictures).clamp(0, 1)


def _score(runtime: Runtime, network: nn.Module, task: Task, loader: Any) -> float:
    """The main metric of what a file says; of a detector's candidates, of the boxes that are chosen from them."""

    def ask(batch: Batch) -> torch.Tensor:
        output = runtime(batch.inputs)
        return chosen(network, output, batch.inputs) if is_detector(network) else output

    said = collect(ask, task, loader)
    return value(said.scores(task), task.parts)
