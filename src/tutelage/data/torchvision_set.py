"""A data set of `torchvision.datasets` that is already on disk."""

import inspect
import os
from typing import Any

from tutelage.errors import DataError, MissingExtra, close_names

from .own import own
from .source import Source

PREFIX = "torchvision/"


def torchvision_set(name: str, root: str | os.PathLike[str], **options: Any) -> Source:
    """The training, validation and test sets of a class of `torchvision.datasets`; nothing is downloaded.

    Args:
        name: ``torchvision/CLASS``.
        root: The folder torchvision keeps its data sets in.
        options: `image_size` and `in_memory`, as for `own`.

    Returns:
        The data set.

    Raises:
        DataError: There is no such class, it is not one of pictures and classes, or its files are not there.
        MissingExtra: torchvision is not installed.
    """
    try:
        from torchvision import datasets
    except ImportError as error:
        raise MissingExtra(f"{name} needs torchvision: pip install 'tutelage[train]'") from error
    wanted = name.removeprefix(PREFIX)
    if wanted not in datasets.__all__:
        raise DataError(
            f"expected a data set of torchvision, found {wanted!r}. {close_names(wanted, datasets.__all__)}"
        )
    make = getattr(datasets, wanted)
    asks = inspect.signature(make).parameters
    if "train" in asks:
        calls: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in asks:
        calls = {split: {"split": split} for split in ("train", "val", "test")}
    else:
        raise DataError(f"expected a data set with a training split, found {name}. Build it in Python and pass it on.")
    found = {split: _make(name, make, root, split, choice) for split, choice in calls.items()}
    return own({split: part for split, part in found.items() if part is not None}, name=name, **options)


def _make(name: str, make: Any, root: str | os.PathLike[str], split: str, choice: dict[str, Any]) -> Any:
    try:
        return make(root, **choice)
    except ValueError:
        if split == "train":
            raise
        return None  # torchvision's way to say that there is no such split
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"expected the files of {name} under {os.fspath(root)!r}, found: {error}. Nothing is "
            f"downloaded: fetch it with torchvision once, and give its folder: --set data.root=FOLDER."
        ) from error
