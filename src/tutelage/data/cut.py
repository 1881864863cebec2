"""Cutting a set into parts that share no sample and hold the classes in the proportions of the whole."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.errors import DataError

from .draws import draws


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
        name = classes[int(present[scarce[0]])]
        raise DataError(
            f"expected at least {1 + leave} samples of each class to draw the {what} from, found "
            f"{int(sizes[scarce[0]])} of class {name!r}. Add samples, leave it out, or bring a {what} split."
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
