"""Inspect: the taps of a model, with shapes and strides."""

import pathlib
from collections.abc import Sequence
from typing import Any

import torch

from tutelage.errors import InputError
from tutelage.models import macs, parameters
from tutelage.models.folder import is_folder, read_config
from tutelage.survey import survey
from tutelage.tasks import Classification

from .prepare import open_model
from .show import say

CLASSLESS = ("sr/",)
"""Models that have no classes."""


def inspect(
    model: Any, *, input: str | None = None, classes: int | None = None, allow_import: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Every place of a model where a tensor can be read.

    Args:
        model: A model's string or module.
        input: Shape of a picture, ``CxHxW``; if None, that of a run folder's own pictures, else 3x32x32.
        classes: How many classes to build the model for; if None, as many as a run folder's model has, else 10 (nets
            of super-resolution have none).
        allow_import: Packages from which models may be imported.

    Returns:
        ``{"tap", "kind", "shape", "stride"}`` for each module, in order of execution; of one that
        runs several times and gives several shapes, a row for each run, and one for the last by its plain name.

    Raises:
        InputError: The shape cannot be read, or the model cannot be built.
    """
    own = read_config(model) if isinstance(model, str | pathlib.Path) and is_folder(model) else None
    if own is not None:
        input = input or "x".join(map(str, (own["in_channels"], *own["input_size"])))
        classes = classes or own["num_classes"]
    input = input or "3x32x32"
    if classes is None and not str(model).startswith(CLASSLESS):
        classes = 10
    shape = parse_shape(input)
    network = open_model(model, shape=shape, classes=classes, allow_import=allow_import, task=None)
    task = Classification(classes or 0)
    batch = task.unpack((torch.zeros(2, *shape), torch.zeros(2, dtype=torch.long)))
    sites = survey(network, lambda: task.call(network, batch))
    say(f"{parameters(network):,} parameters, {macs(network, shape):,} multiply-adds for one picture of {input}")
    every = [each for site in sites.values() for each in (*site.runs, site)]
    ordered = sorted(every, key=lambda site: site.depth)
    return [{"tap": s.name, "kind": s.kind, "shape": list(s.shape), "stride": s.stride} for s in ordered]


def parse_shape(text: str) -> tuple[int, int, int]:
    """``3x32x32`` as numbers.

    Example:
        >>> parse_shape("3x32x32")
        (3, 32, 32)
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--input: expected channels x height x width such as 3x32x32, found {text!r}.")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width
