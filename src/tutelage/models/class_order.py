"""The classes of a model in the order of the data's, by name."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from .detectors import is_detector, reorder
from .folder import is_folder, read_config


def learned(model: Any) -> tuple[str, ...]:
    """The names of the classes a model was trained on, where it is a folder that tells them."""
    if not isinstance(model, str | pathlib.Path) or not is_folder(model):
        return ()
    return tuple(read_config(model).get("classes", ()))


def match(model: nn.Module, names: Sequence[str], classes: Sequence[str]) -> str | None:
    """Put the classes of a model in the order of the data's, by name.

    Args:
        model: With `preprocess`; of a detector the last layers are changed in place.
        names: Of the classes it was trained on; empty where they are not known.
        classes: Names of the data's, as many.

    Returns:
        What was done, or why it could not be; None where there was nothing to do. Numbers, which stand for classes
        without a name, are no other names.
    """
    if not names or list(names) == list(classes):
        return None
    if sorted(names) != sorted(classes):
        if any(all(name.isdigit() for name in side) for side in (names, classes)):
            return None
        unknown = ", ".join(map(repr, [name for name in classes if name not in names][:5]))
        missing = ", ".join(map(repr, [name for name in names if name not in classes][:5]))
        return (
            f"the classes of the data have other names than those the model learned ({unknown} in place of {missing}), "
            "so they are taken by their order alone: its answers mean nothing where that is another."
        )
    columns = [names.index(name) for name in classes]
    if is_detector(model):
        reorder(model, columns)
    else:
        preprocess: Any = model.__dict__["preprocess"]
        before = preprocess.classes or range(len(names))
        arranged = tuple(before[column] for column in columns)
        model.__dict__["preprocess"] = dataclasses.replace(preprocess, classes=arranged)
    return "the data has the classes of the model in another order: they were matched by name."
