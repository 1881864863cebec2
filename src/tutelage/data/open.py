"""Open a data set for classification: recognise it, check it, cut it into slices that share no sample."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from tutelage.errors import DataError

from .cut import stratified
from .digits import digits
from .slices import Slice, Splits
from .source import Source


def names() -> dict[str, str]:
    """The data sources there are: how each is written, and what it is."""
    return {
        "digits": "scikit-learn's handwritten digits, 1,797 grey pictures of 8x8, 10 classes; needs no file",
    }


def open_data(
    source: str | os.PathLike[str] | Dataset[Any] | Mapping[str, Dataset[Any]],
    *,
    seed: int = 0,
    selection: float = 0.1,
    guard: float = 0.0,
    test: float = 0.2,
    limit: int | float | None = None,
    labels: int | float | None = None,
) -> Splits:
    """Open a data set.

    Args:
        source: What to open; `names` lists the ways to write it.
        seed: Another seed cuts other slices.
        selection: Share of the training set held out for selection, where the source brings no validation split.
        guard: Share of the training set held out for the guard.
        test: Share of everything held out as test, where the source brings no test split.
        limit: Training samples to keep, each class in proportion: a number, or a share if a float.
        labels: Training samples that keep their label, each class in proportion; the others become unlabelled.

    Returns:
        The slices, with the guess and the notes to show to people.

    Raises:
        DataError: The data cannot be read or used; the message says what to do.

    Example:
        >>> splits = open_data("digits")
        >>> len(splits.train), len(splits.selection), len(splits.test), splits.train.shape
        (1294, 144, 359, (1, 8, 8))
    """
    for name, share in {"selection": selection, "guard": guard, "test": test}.items():
        if not 0 <= share < 1:
            raise DataError(f"expected {name} to be a share of the samples in [0, 1), found {share}.")
    found = _find(source)
    _refuse_one_class(found)
    return _cut(found, seed, {"test": test, "selection": selection, "guard": guard}, limit, labels)


def _find(source: Any) -> Source:
    if source == "digits":
        return digits()
    raise DataError(f"expected one of {', '.join(names())}; found {source!r}.")


def _refuse_one_class(found: Source) -> None:
    train = found.parts["train"]
    present = train.labels[train.labelled].unique()
    if len(train.classes) < 2 or len(present) == 1:
        only = [train.classes[int(label)] for label in present]
        raise DataError(
            f"expected at least two classes in {found.name}, found {', '.join(map(repr, only)) or 'none'}. "
            f"Classification needs something to tell apart."
        )


def _cut(
    found: Source,
    seed: int,
    shares: Mapping[str, float],
    limit: int | float | None,
    labels: int | float | None,
) -> Splits:
    parts, notes = dict(found.parts), list(found.notes)
    train = parts["train"]
    for name, share in shares.items():
        if name in parts:
            continue
        drawn, left = stratified(train.labels, float(share), train.classes, seed=seed, what=name)
        parts[name], train = train.select(drawn), train.select(left)
        if name != "guard":
            notes.append(f"no {name} split found: {len(drawn):,} samples were cut from the training set.")
    whole = train
    if limit is not None:
        train = train.select(_keep(train, limit, seed, "limit"))
        notes.append(f"limit: {len(train):,} of {len(whole):,} training samples are kept.")
    if labels is not None:
        known = train.labelled.nonzero().flatten()
        keep = torch.zeros(len(train), dtype=torch.bool)
        keep[known[_keep(train.select(known), labels, seed, "labels")]] = True
        train = train.unlabel((~keep).nonzero().flatten())
        notes.append(
            f"labels: {int(train.labelled.sum()):,} of {len(train):,} training samples keep their label."
        )
    guess = f"{found.name}: {found.layout}, {_size(parts, whole)}"
    return Splits(train, parts["selection"], parts["guard"], parts["test"], train.classes, guess, notes)


def _keep(train: Slice, amount: int | float, seed: int, what: str) -> torch.Tensor:
    if amount < 0 or (isinstance(amount, float) and amount > 1):
        raise DataError(
            f"expected {what} as a number of samples, or as a share in 0.0 to 1.0; found {amount}."
        )
    return stratified(train.labels, amount, train.classes, seed=seed, what=what, leave=0)[0]


def _size(parts: Mapping[str, Slice], train: Slice) -> str:
    counts = {"train": len(train), **{name: len(parts[name]) for name in ("selection", "guard", "test")}}
    channels, height, width = train.shape
    told = " + ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    colour = "grey" if channels == 1 else "colour" if channels == 3 else f"{channels} channels"
    return (
        f"{len(train.classes)} classes, {sum(counts.values()):,} pictures ({told}), {height}x{width} {colour}"
    )
