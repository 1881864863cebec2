"""Evaluate: the metrics of a model on a data set's test split."""

import pathlib
from collections.abc import Sequence
from typing import Any

from tutelage.data import Loader, open_data
from tutelage.engine.evaluate import answer, describe_answers
from tutelage.errors import InputError
from tutelage.tasks import Classification

from .prepare import open_model, say


def evaluate(
    model: Any,
    *,
    data: Any,
    split: str = "test",
    image_size: int | None = None,
    seed: int = 0,
    allow_import: Sequence[str] = (),
) -> dict[str, Any]:
    """Metrics of a model on one split.

    Args:
        model: A run folder, a model's string, or a module.
        data: A path or name, or a data set of ``(picture, label)``.
        split: ``test``, ``selection`` or ``train``.
        image_size: Side of the pictures, where files differ in size.
        seed: Of the cut, where the data brings no such split; as in the run that made the model.
        allow_import: Packages from which models may be imported.

    Returns:
        ``{"split", "samples", "accuracy", "ece", "nll", "per_class", "confusion"}``.

    Raises:
        InputError: The model does not answer for the classes of the data.
    """
    if split not in ("test", "selection", "train"):
        raise InputError(f"--split: expected test, selection or train, found {split!r}.")
    splits = open_data(str(data) if isinstance(data, str | pathlib.Path) else data, image_size=image_size, seed=seed)
    say(splits.guess)
    part = getattr(splits, split)
    network = open_model(model, shape=part.shape, classes=len(splits.classes), allow_import=allow_import)
    task = Classification(splits.classes)
    loader = Loader(part, batch_size=512, seed=0, augment=None, shuffle=False, drop_last=False)
    said = answer(network, task, loader)
    described = describe_answers(said, task)
    described.pop("agreement")
    return {"split": split, "samples": len(said.target), **described}
