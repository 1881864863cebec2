"""Export: a run's student as ONNX or as a PyTorch program, with a parity check."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tutelage.errors import InputError, RunError
from tutelage.export import to_onnx, to_pt2
from tutelage.models import find
from tutelage.recipe import schema
from tutelage.recipe.build import build_data, build_task, choose_task, task_class
from tutelage.tasks.base import Task

from .prepare import say

MOST = 64
"""Pictures that are compared, at most."""

FORMATS = {"onnx": to_onnx, "pt2": to_pt2}


def export(
    run: str | pathlib.Path, *, format: str = "onnx", model: str = "student", allow_import: Sequence[str] = ()
) -> dict[str, Any]:
    """Write a run's student in another format, and compare the two on pictures of the test split.

    The normalisation is inside: the exported model takes pictures as floats in [0, 1]. Where the run's data cannot be
    opened, such as a data set given from Python, the two are compared on noise, and that is said.

    Args:
        run: A run folder.
        format: ``onnx`` or ``pt2``.
        model: ``student`` or ``baseline``.
        allow_import: Packages from which models and data may be imported.

    Returns:
        The content of parity.json.

    Raises:
        RunError: There is no such model in the run.
        InputError: There is no such format.
    """
    run = pathlib.Path(run)
    if format not in FORMATS:
        raise InputError(f"--format: expected {' or '.join(FORMATS)}, found {format!r}.")
    if model not in ("student", "baseline"):
        raise InputError(f"--model: expected student or baseline, found {model!r}.")
    folder = run / model
    if not (folder / "config.json").exists():
        raise RunError(f"export: expected a finished run with {model}/config.json in {run}, found none.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    recipe = schema.parse(schema.read(run / "recipe.yaml"))
    pictures, task = _pictures(recipe, config, allow_import)
    network = find(str(folder), allow_import=allow_import)
    out = run / "export" if model == "student" else run / "export" / model
    parity = FORMATS[format](
        network if task is None else task.exported(network),
        out,
        input_shape=(pictures.shape[1], pictures.shape[2], pictures.shape[3]),
        classes=config["classes"],
        sample_inputs=pictures,
        finish=None if task is None else task.finish,
        agree=None if task is None else task.agree,
        any_size=task is not None and task.any_size,
    )
    say(
        f"{out / parity.file}: agrees with the {model} on {parity.samples} pictures (the same for "
        f"{parity.agreement:.1%}, largest difference {parity.max_difference:.2g})"
    )
    return dataclasses.asdict(parity)


def _pictures(
    recipe: schema.Recipe, config: Mapping[str, Any], allow_import: Sequence[str]
) -> tuple[torch.Tensor, Task | None]:
    """The first pictures of the test split, as floats in [0, 1], and the task."""
    recipe, _ = choose_task(recipe, {})
    try:
        splits = build_data(recipe, {}, allow_import)
    except InputError as error:
        say(f"the run's data cannot be opened, so the comparison is made on noise: {error}")
        shape = (config["in_channels"], *config["input_size"])
        noise = torch.rand(MOST, *shape, generator=torch.Generator().manual_seed(0))
        return noise, task_class(recipe, allow_import)(config["classes"])  # type: ignore[call-arg]
    test, task = splits.test, build_task(recipe, splits, allow_import)
    pictures = test.gather(torch.arange(min(MOST, len(test))))
    return (pictures.float().div(255) if pictures.dtype == torch.uint8 else pictures).clamp(0, 1), task
