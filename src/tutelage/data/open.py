"""Open a data set for classification: recognise it, check it, cut it into slices that share no sample."""

import difflib
import os
import pathlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from tutelage.errors import DataError
from tutelage.foreign import load

from .cut import stratified
from .digits import digits
from .image_folder import image_folder
from .own import own
from .parquet import parquet
from .slices import Slice, Splits
from .source import Source
from .torchvision_set import PREFIX, torchvision_set


def names() -> dict[str, str]:
    """The data sources there are: how each is written, and what it is."""
    return {
        "digits": "scikit-learn's handwritten digits: 1,797 grey pictures of 8x8, 10 classes; needs no file",
        "FOLDER (ImageFolder)": "CLASS/PICTURE, or train/CLASS/PICTURE with val/ and test/ beside it",
        "FOLDER (parquet)": "Hugging Face parquet with the columns image and label, split by file name",
        "torchvision/NAME": "a data set of torchvision.datasets that lies under root; nothing is downloaded",
        "PACKAGE.MODULE:NAME": "your function that returns a Dataset, or a mapping of splits to Datasets",
    }


def open_data(
    source: str | os.PathLike[str] | Dataset[Any] | Mapping[str, Dataset[Any]],
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    selection: float = 0.1,
    guard: float | None = 0.0,
    test: float = 0.2,
    limit: int | float | None = None,
    labels: int | float | None = None,
    max_bad: int | float = 0.01,
    in_memory: bool | None = None,
    root: str | os.PathLike[str] = "data",
    allow_import: Sequence[str] = (),
) -> Splits:
    """Open a data set.

    A validation split the source brings is the selection slice. What it does not bring is cut from the
    training set, each class in proportion. Pictures that cannot be read are in no slice.

    Args:
        source: What to open, as listed by `names`; or your own `Dataset` of (picture, label), or a mapping
            with ``"train"`` and, if there are any, ``"validation"`` and ``"test"``.
        image_size: Height and width to bring all pictures to; by default the size they have, and where sizes
            differ 64 (median of the shorter sides below 100) or 224.
        seed: Another seed cuts other slices.
        selection: Share of the training set held out for selection, if the source brings no validation split.
        guard: Share of the labelled training samples, of those that are kept, held out for the guard; None: 2%, at
            least 128 and at most 5%, and none at all where that makes fewer than 32.
        test: Share of everything held out as test, if the source brings no test split.
        limit: Training samples to keep, each class in proportion; a number, or a share if a float.
        labels: Training samples that keep their label, each class in proportion; the others lose theirs.
        max_bad: How many pictures may be unreadable: a number, or a share if a float.
        in_memory: Whether to hold all pictures decoded; by default if that takes less than 2 GB.
        root: Where torchvision keeps its data sets.
        allow_import: Packages that may be imported for a source written ``package.module:name``.

    Returns:
        The slices, with the guess and the notes to show to people.

    Raises:
        DataError: The data cannot be read or used; the message says what to do.

    Example:
        >>> splits = open_data("digits")
        >>> len(splits.train), len(splits.selection), len(splits.test), splits.train.shape
        (1294, 144, 359, (1, 8, 8))
    """
    for name, share in {"selection": selection, "guard": guard or 0.0, "test": test}.items():
        if not 0 <= share < 1:
            raise DataError(f"expected {name} to be a share of the samples in [0, 1), found {share}.")
    options = {"image_size": image_size, "in_memory": in_memory}
    found = _find(source, root=root, allow_import=allow_import, max_bad=max_bad, options=options)
    _refuse_one_class(found)
    return _cut(found, seed, {"test": test, "selection": selection}, limit, labels, guard)


def _find(
    source: Any,
    *,
    root: str | os.PathLike[str],
    allow_import: Sequence[str],
    max_bad: int | float,
    options: Mapping[str, Any],
) -> Source:
    if isinstance(source, Mapping) or not isinstance(source, (str, os.PathLike)):
        return own(source, **options)
    written = os.fspath(source)
    path = pathlib.Path(written)
    if written == "digits":
        return digits()
    if path.exists():
        return _folder(path, max_bad=max_bad, **options)
    if written.startswith(PREFIX):
        return torchvision_set(written, root, **options)
    if re.fullmatch(r"\w+(\.\w+)*:\w+", written):
        return own(load(written, allow_import, where="data")(), name=written, **options)
    close = f" close: {', '.join(near)}." if (near := difflib.get_close_matches(written, ["digits"])) else ""
    raise DataError(f"expected a folder that exists, or one of {', '.join(names())}; found {written!r}.{close}")


def _folder(path: pathlib.Path, **options: Any) -> Source:
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"expected a data set in {path}, found an empty folder.")
    found = parquet(path, **options) if path.is_dir() or path.suffix == ".parquet" else None
    if found is None and path.is_dir():
        found = image_folder(path, **options)
    if found is None:
        raise DataError(
            f"expected a known layout in {path}, found {_contents(path)}. Known are: "
            + "; ".join(f"{name}: {what}" for name, what in names().items() if name.startswith("FOLDER"))
        )
    return found


def _contents(path: pathlib.Path) -> str:
    """What lies in a folder, in a few words."""
    if path.is_file():
        return f"a file of type {path.suffix or 'unknown'}"
    folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    kinds = Counter(entry.suffix or "no suffix" for entry in path.rglob("*") if entry.is_file())
    told = [f"{count:,} files {kind}" for kind, count in kinds.most_common(4)] or ["no files"]
    return ", ".join(told) + (f" and the folders {', '.join(folders[:6])}" if folders else "")


def _refuse_one_class(found: Source) -> None:
    train = found.parts["train"]
    present = sorted(set(train.labels[train.labelled].tolist()))
    if len(train.classes) < 2 or len(present) == 1:
        only = [train.classes[label] for label in present]
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
    guard: float | None,
) -> Splits:
    parts, notes = _hold_out(found, seed, shares)
    whole = train = parts["train"]
    if limit is not None:
        train = train.select(_keep(train, limit, seed, "limit"))
        notes.append(f"limit: {len(train):,} of {len(whole):,} training samples are kept.")
    if labels is not None:
        known = train.labelled.nonzero().flatten()
        keep = torch.zeros(len(train), dtype=torch.bool)
        keep[known[_keep(train.select(known), labels, seed, "labels")]] = True
        train = train.unlabel((~keep).nonzero().flatten())
        kept = int(train.labelled.sum())
        notes.append(f"labels: {kept:,} of {len(train):,} training samples keep their label.")
    if "guard" not in parts:
        parts["guard"], train = _guard(train, guard, seed)
    parts["train"] = train
    guess = f"{found.name}: {found.layout}, {_size(parts)}"
    return Splits(train, parts["selection"], parts["guard"], parts["test"], train.classes, guess, notes)


def _guard(train: Slice, share: float | None, seed: int) -> tuple[Slice, Slice]:
    """The guard's slice, of labelled samples, and what is left to train on."""
    known = train.labelled.nonzero().flatten()
    amount = round(share * len(known)) if share is not None else min(max(128, len(known) // 50), len(known) // 20)
    if share is None and amount < 32:
        amount = 0
    drawn, _ = stratified(train.labels[known], amount, train.classes, seed=seed, what="guard")
    held = torch.zeros(len(train), dtype=torch.bool)
    held[known[drawn]] = True
    return train.select(held.nonzero().flatten()), train.select((~held).nonzero().flatten())


def _hold_out(found: Source, seed: int, shares: Mapping[str, float]) -> tuple[dict[str, Slice], list[str]]:
    """The parts, selection and test cut from the training set where the source does not bring them, and the notes."""
    parts, notes = dict(found.parts), list(found.notes)
    train = parts["train"]
    absent = set(range(len(train.classes))) - set(train.labels.tolist())
    if absent and train.labelled.any():
        some = ", ".join(train.classes[label] for label in sorted(absent)[:8])
        notes.append(f"no training sample of {len(absent)} classes: {some}.")
    for name in ("selection", "test"):
        if name in parts and train.labelled.any() and not parts[name].labelled.any():
            notes.append(f"the {name} split has no labels and is left out.")
            del parts[name]
    training = len(train)
    for name in ("test", "selection"):
        if name not in parts:
            share = shares[name] * training / len(train)
            drawn, left = stratified(train.labels, share, train.classes, seed=seed, what=name)
            parts[name], train = train.select(drawn), train.select(left)
            if len(drawn):
                notes.append(f"no {name} split found: {len(drawn):,} samples were cut from the training set.")
        training = len(train) if name == "test" else training
    return {**parts, "train": train}, notes


def _keep(train: Slice, amount: int | float, seed: int, what: str) -> torch.Tensor:
    if amount < 0 or (isinstance(amount, float) and amount > 1) or (what == "limit" and amount == 0):
        raise DataError(f"expected {what} as a number of samples, or as a share in 0.0 to 1.0; found {amount}.")
    return stratified(train.labels, amount, train.classes, seed=seed, what=what, leave=0)[0]


def _size(parts: Mapping[str, Slice]) -> str:
    counts = {name: len(parts[name]) for name in ("train", "selection", "guard", "test")}
    channels, height, width = parts["train"].shape
    told = " + ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    total = sum(counts.values())
    return f"{len(parts['train'].classes)} classes, {total:,} pictures ({told}), {height}x{width} {colour}"
