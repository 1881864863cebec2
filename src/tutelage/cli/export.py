"""Export: a run's student as ONNX or as a PyTorch program, with a parity check."""

import dataclasses
import json
import pathlib
from typing import Any

from tutelage.errors import InputError, RunError
from tutelage.export import to_onnx, to_pt2
from tutelage.models import find
from tutelage.recipe import schema
from tutelage.recipe.build import build_data

from .prepare import say

FORMATS = {"onnx": to_onnx, "pt2": to_pt2}


def export(run: str | pathlib.Path, *, format: str = "onnx", model: str = "student") -> dict[str, Any]:
    """Write a run's student in another format, and compare the two on real pictures.

    The normalisation is inside: the exported model takes pictures as floats in [0, 1].

    Args:
        run: A run folder.
        format: ``onnx`` or ``pt2``.
        model: ``student`` or ``baseline``.

    Returns:
        The content of parity.json.

    Raises:
        RunError: There is no such model in the run.
        InputError: There is no such format.
    """
    run = pathlib.Path(run)
    if format not in FORMATS:
        raise InputError(f"--format: expected {' or '.join(FORMATS)}, found {format!r}.")
    folder = run / model
    if not (folder / "config.json").exists():
        raise RunError(f"export: expected a finished run with {model}/config.json in {run}, found none.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    recipe = schema.parse(schema.read(run / "recipe.yaml"))
    splits = build_data(recipe.data, {})
    pictures = splits.test.gather(_first(len(splits.test))).float().div(255)
    network = find(str(folder))
    out = run / "export" if model == "student" else run / "export" / model
    parity = FORMATS[format](
        network, out, input_shape=splits.test.shape, classes=config["classes"], sample_inputs=pictures
    )
    written = dataclasses.asdict(parity)
    say(f"{out}: {json.dumps(written, default=str)}")
    return written


def _first(samples: int) -> Any:
    import torch

    return torch.arange(min(64, samples))
