"""Cutting a set into parts that share no sample and hold the classes in the proportions of the whole."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tutelage.errors import DataError

from .draws import draws
from .slices import Slice, Splits
from .source import Source

FEW, FEW_TRUTHS = 32, 8
"""Fewer samples tell the guard nothing: of those with a class, and of those with masks, boxes or pictures."""


def stratified(
    labels: Tensor, amount: float, classes: Sequence[str], *, seed: int, what: str, leave: int = 1
) -> tuple[Tensor, Tensor]:
    """Draw part of a set, each class in proportion and with at least one sample.

    Args:
        labels: Class of each sample, int64 ``[N]``; -1 where it is not known: these are drawn in
            proportion too, but there need not be any.
        amount: How many to draw: a share in 0 … 1 if a float, a number of samples if an int.
        classes: Names of the classes, for the message.
        seed: Another seed draws other samples.
        what: What is being drawn, for the message and to keep the draws of two cuts apart.
        leave: How many samples of each class must stay behind.

    Returns:
        Positions drawn and positions left, each in ascending order.

    Raises:
        DataError: A class is too small, or fewer samples were asked for than there are classes.

    Example:
        >>> drawn, left = stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 2, ("a", "b"), seed=0, what="test")
        >>> len(drawn), len(left)
        (2, 4)
    """
    counts = (labels + 1).bincount()
    present = counts.nonzero().flatten() - 1
    sizes = counts[present + 1]
    total = round(amount * len(labels)) if isinstance(amount, float) else amount
    if amount <= 0:
        return torch.empty(0, dtype=torch.int64), torch.arange(len(labels))
    if total >= len(labels) and leave == 0:
        return torch.arange(len(labels)), torch.empty(0, dtype=torch.int64)
    least = (present >= 0).long()
    scarce = (sizes < least * (1 + leave)).nonzero().flatten()
    if len(scarce):
        each, of = " of each class", f" of class {classes[int(present[scarce[0]])]!r}"
        if len(classes) == 1:  # where there are no classes, all that is known is one
            each = of = ""
        raise DataError(
            f"expected at least {1 + leave} samples{each} to draw the {what} from, found {int(sizes[scarce[0]])}{of}. "
            f"Add samples{', leave it out' * bool(of)}, or bring a {what} split."
        )
    if isinstance(amount, int) and total < least.sum():
        raise DataError(
            f"expected at least one sample of each class, {int(least.sum())} for {what}; found {total}. Ask for more."
        )
    shares = _shares(sizes, total, least, sizes - leave * least, exact=isinstance(amount, int))
    keys = draws(seed, *what.encode(), torch.arange(len(labels)))
    drawn = []
    for label, share in zip(present, shares, strict=True):
        members = (labels == label).nonzero().flatten()
        drawn.append(members[keys[members].argsort(stable=True)[:share]])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(drawn)] = True
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()


def _shares(sizes: Tensor, total: int, least: Tensor, most: Tensor, *, exact: bool) -> list[int]:
    """How many of each class: in proportion by largest remainder, within the bounds.

    Small classes that are owed one sample may make more than the total; a number that was asked for is kept all the
    same, at the cost of the classes that are farthest above their proportion.
    """
    wanted = sizes.double() * total / sizes.sum()
    shares = wanted.floor().long().maximum(least).minimum(most)
    for n in (wanted - shares).argsort(descending=True, stable=True).tolist():
        if int(shares.sum()) >= total:
            break
        shares[n] += int(shares[n] < most[n])
    while exact and int(shares.sum()) > total and bool((shares > least).any()):
        shares[(shares - wanted).where(shares > least, -torch.inf).argmax()] -= 1
    return [int(share) for share in shares]


def cut(
    found: Source,
    *,
    seed: int = 0,
    selection: float = 0.1,
    guard: float | None = 0.0,
    test: float = 0.2,
    limit: int | float | None = None,
    labels: int | float | None = None,
) -> Splits:
    """The four slices of a data set: what it does not bring is cut from its training set.

    Args:
        found: The data set.
        seed: Another seed cuts other slices.
        selection: Share of the training set held out for selection, if the source brings no validation split.
        guard: Share of the labelled training samples, of those that are kept, held out for the guard; None: 2%, at
            least 128 and at most 5%, and none at all where that makes fewer than 32, or fewer than 8 whose truth is
            more than a class: a picture with a mask, or with boxes, tells more than one with a class.
        test: Share of everything held out as test, if the source brings no test split.
        limit: Training samples to keep, each class in proportion; a number, or a share if a float.
        labels: Training samples that keep their truth, each class in proportion; the others lose theirs.

    Samples that depend on each other, such as frames of a video, are held out in whole blocks, as many as come closest
    to the share.

    Returns:
        The slices, with the guess and the notes to show to people.

    Raises:
        DataError: A share is none, or there are too few samples.
    """
    shares = {"test": test, "selection": selection}
    for name, share in {**shares, "guard": guard or 0.0}.items():
        if not 0 <= share < 1:
            raise DataError(f"expected {name} to be a share of the samples in [0, 1), found {share}.")
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
    parts["guard"], train = _guard(train, guard, seed)
    parts["train"] = train
    guess = f"{found.name}: {found.layout}, {_size(parts)}"
    three = (parts["selection"], parts["guard"], parts["test"])
    return Splits(train, *three, train.classes, guess, notes, found.facts)


def _guard(train: Slice, share: float | None, seed: int) -> tuple[Slice, Slice]:
    """The guard's slice, of labelled samples, and what is left to train on."""
    known = train.labelled.nonzero().flatten()
    amount = min(max(128, len(known) // 50), len(known) // 20) if share is None else share
    least = FEW_TRUTHS if train.mapped else FEW
    if share is None and (amount < least or int(torch.unique(train.labels[known], return_counts=True)[1].min()) < 2):
        amount = 0
    drawn, _ = _drawn(train.select(known), amount, seed, "guard")
    held = torch.zeros(len(train), dtype=torch.bool)
    held[known[drawn]] = True
    return train.select(held.nonzero().flatten()), train.select((~held).nonzero().flatten())


def _hold_out(found: Source, seed: int, shares: Mapping[str, float]) -> tuple[dict[str, Slice], list[str]]:
    """Training, selection and test; what the source does not bring is cut from the training set; and the notes."""
    parts, notes = dict(found.parts), list(found.notes)
    train = parts["train"]
    absent = set() if train.mapped else set(range(len(train.classes))) - set(train.labels.tolist())
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
            drawn, left = _drawn(train, share, seed, name)
            parts[name], train = train.select(drawn), train.select(left)
            if len(drawn):
                notes.append(f"no {name} split found: {len(drawn):,} samples were cut from the training set.")
        training = len(train) if name == "test" else training
    return {**parts, "train": train}, notes


def _drawn(train: Slice, amount: float, seed: int, what: str) -> tuple[Tensor, Tensor]:
    """Positions held out and positions left: of single samples by class, or of whole blocks where there are several."""
    if train.blocks is None or amount <= 0 or len(torch.unique(train.blocks)) < 2:
        return stratified(train.labels, amount, _names(train), seed=seed, what=what)
    names, sizes = torch.unique(train.blocks, return_counts=True)
    order = draws(seed, *what.encode(), names).argsort(stable=True)
    wanted = amount * len(train) if isinstance(amount, float) else amount
    count = int((sizes[order].cumsum(0)[:-1] - wanted).abs().argmin()) + 1
    held = torch.isin(train.blocks, names[order[:count]])
    return held.nonzero().flatten(), (~held).nonzero().flatten()


def _keep(train: Slice, amount: int | float, seed: int, what: str) -> Tensor:
    if amount < 0 or (isinstance(amount, float) and amount > 1) or (what == "limit" and amount == 0):
        raise DataError(f"expected {what} as a number of samples, or as a share in 0.0 to 1.0; found {amount}.")
    return stratified(train.labels, amount, _names(train), seed=seed, what=what, leave=0)[0]


def _names(train: Slice) -> Sequence[str]:
    """What the labels of a slice are called."""
    return ("known",) if train.mapped else train.classes


def _size(parts: Mapping[str, Slice]) -> str:
    counts = {name: len(parts[name]) for name in ("train", "selection", "guard", "test")}
    channels, height, width = parts["train"].shape
    told = " + ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    total = sum(counts.values())
    classes = f"{len(parts['train'].classes)} classes, " if parts["train"].classes else ""
    return f"{classes}{total:,} pictures ({told}), {height}x{width} {colour}"
