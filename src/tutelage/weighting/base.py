"""What every weighting has in common: it turns the ledger of a step into one weight per row or per entry."""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tutelage.errors import InputError, RecipeError, UnknownName, close_names
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec


class Weighting(nn.Module):
    """A rule that says how much each entry of the ledger counts.

    A *scale* brings the rows to a common size: it may read the raw losses, without gradient into
    them. A *gate* comes after and says, by factors in [0, 1], whom to trust or when: no scale ever
    sees what a gate did. `Product` multiplies them. So a scale that is learned gives constants, and learns by its
    `penalty`; through its weights it would learn from what gates leave of them, and undo that.

    Rows of the task itself have weight 1 unless the rule says otherwise. Parameters belong to an
    optimizer group of their own, without weight decay.
    """

    kind: ClassVar[Literal["scale", "gate"]] = "scale"
    per_sample: ClassVar[bool] = False
    """Whether the samples of a row may get different weights."""
    averages: ClassVar[bool] = False
    """Whether, if so, a row whose loss cannot be split among the samples gets one weight, their mean."""
    needs_labels: ClassVar[bool] = False
    """Whether the rule has nothing to go by where no training sample has a label."""
    rows: tuple[Row, ...] = ()

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Learn which rows there will be, check names and size parameters; called once, at build.

        Args:
            rows: The K rows of every ledger to come.
            spec: What is known before the first step.

        Raises:
            UnknownName: An option names a path or row that does not exist.
            RecipeError: The rule weighs single samples, and the loss of a path cannot be split among them; or it
                needs labels, and no training sample has one.
        """
        self.rows = rows
        if self.needs_labels and not spec.labelled:
            raise RecipeError(
                f"weighting: {type(self).__name__} goes by the labels; expected training samples with one, found none. "
                "Give labels, or take a rule that needs none, such as auto or entropy."
            )
        if self.per_sample and not self.averages:
            for path in by_path(rows):
                if path in spec.batchwise:
                    raise RecipeError(
                        f"path {path!r}: its loss is one number for the whole batch, and {type(self).__name__} weighs "
                        "single samples. Take another loss in this path, or a weighting with one weight for each row."
                    )

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of one step.

        Args:
            ledger: The raw losses, ``[K, B]``.
            lesson: What everybody said.

        Returns:
            ``[K, 1]`` or ``[K, B]``, finite; and never negative unless the rule says so.
        """
        raise NotImplementedError

    def elements(self, lesson: Lesson) -> Mapping[str, Tensor]:
        """Where in a sample a row counts; asked before the losses are computed, how much is `forward`'s business.

        Args:
            lesson: What everybody said; nothing is adapted yet.

        Returns:
            Row name -> one weight for each position (pixel, token), ``[B, ...]``, 1 on average over those of a sample;
            for rows of `Spec.elementwise` only. The ledger then holds their losses so weighted.
        """
        return {}

    def kept_off(self) -> Mapping[str, float]:
        """Rows that must not reach the student now, each with the size of its loss when that began.

        Layers of their own (connectors, heads) go on learning from them.
        """
        return {}

    def taps(self) -> tuple[str, ...]:
        """Taps of the student that the rule reads, beside those of the paths."""
        return ()

    def penalty(self) -> Tensor | float:
        """What the rule adds to the loss for its own parameters to learn from; asked for once after each `forward`."""
        return 0.0

    def asks(self) -> int | None:
        """The number of the held-out batch that the rule wants to hear about now; None: of none.

        Asked once after each optimizer step, after `after_step`, where samples are held out.
        """
        return None

    def hears(self, ledger: Ledger, lesson: Lesson) -> None:
        """What everybody said about the held-out samples that the rule asked for.

        Args:
            ledger: The raw losses with gradient, everything in eval mode.
            lesson: What everybody said, the student's taps with gradient.
        """

    def after_step(self, probe: Probe | None = None) -> None:
        """Called once after each optimizer step."""

    def news(self) -> list[str]:
        """What people should be told of, a line each, since it was last asked for."""
        return []

    def end_epoch(self) -> None:
        """Called once after each epoch."""


def per_row(values: float | Mapping[str, float], rows: Sequence[Row], *, default: float = 1.0) -> list[float]:
    """One number for each taught row, looked up by row name first and path name second.

    Args:
        values: 0 or more: one number for all, or path name (``"layer3"``) or row name
            (``"layer3/big"``, which wins) -> number.
        rows: The rows of the ledger.
        default: For rows that are not named.

    Returns:
        One number a row; 1 for rows of the task itself.

    Raises:
        UnknownName: A name is neither a path with a teacher nor such a row.
        InputError: A number is negative or not finite.

    Example:
        >>> per_row({"logits": 2.0}, (Row("base"), Row("logits", "big"), Row("layer3", "big")), default=0.5)
        [1.0, 2.0, 0.5]
    """
    named, default = (values, default) if isinstance(values, Mapping) else ({}, values)
    taught = [row for row in rows if row.teacher is not None]
    known = dict.fromkeys([*(row.path for row in taught), *(row.name for row in taught)])
    for name in named:
        if name not in known:
            raise UnknownName(f"weighting: no path or row {name!r}.\n  {close_names(name, known)}")
    for name, value in {**named, "default": default}.items():
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise InputError(f"weighting: expected a finite number, 0 or more, for {name!r}; found {value!r}.")
    return [1.0 if row.teacher is None else float(named.get(row.name, named.get(row.path, default))) for row in rows]


def by_path(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Path name -> positions of its rows, one for each of its teachers; the task's own rows are left out.

    Example:
        >>> by_path((Row("base"), Row("logits", "a"), Row("logits", "b")))
        {'logits': [1, 2]}
    """
    members: dict[str, list[int]] = {}
    for k, row in enumerate(rows):
        if row.teacher is not None:
            members.setdefault(row.path, []).append(k)
    return members


def parted(weight: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A weight of each position, taken apart: how much a sample counts, and where in it.

    Args:
        weight: ``[B, ...]``, 0 or more.
        mask: ``[B, ...]``, true where a position counts; None for all.

    Returns:
        The mean over the positions that count, ``[B]`` (over all where none does), and the weights divided by it,
        ``[B, ...]``; 1 where the mean is 0.

    Example:
        >>> parted(torch.tensor([[0.5, 0.25], [0.0, 0.0]]), torch.tensor([[True, False], [True, True]]))
        (tensor([0.5000, 0.0000]), tensor([[1.0000, 0.5000],
                [1.0000, 1.0000]]))
    """
    flat = weight.flatten(1)
    counts = torch.ones_like(flat) if mask is None else mask.flatten(1).to(flat)
    counts = torch.where(counts.any(dim=1, keepdim=True), counts, 1.0)
    mean = (flat * counts).sum(dim=1) / counts.sum(dim=1)
    each = mean.reshape(-1, *(1,) * (weight.ndim - 1))
    return mean, torch.where(each > 0, weight / each, 1.0)


def row_means(ledger: Ledger, *, shared: bool) -> tuple[Tensor, Tensor]:
    """The batch mean of each row, without gradient: what rules over the values of losses go by.

    Args:
        ledger: The raw losses.
        shared: Over the batches of all processes together; then every process has to ask.

    Returns:
        Means over the entries that are finite, float ``[K]``, and whether a row said anything, bool ``[K]``: a row
        without a finite entry, or with a mean of 0 (everything masked, no labels), did not.

    Example:
        >>> row_means(Ledger((Row("base"), Row("logits", "a")), torch.tensor([[1.0, 3.0], [0.0, 0.0]])), shared=False)
        (tensor([2., 0.]), tensor([ True, False]))
    """
    losses = ledger.losses.detach()
    losses = losses.to(torch.promote_types(losses.dtype, torch.float32))
    finite = losses.isfinite()
    # Bounded, so that a sum over a large batch is finite, too.
    seen = torch.stack([torch.where(finite, losses.clamp(-1e30, 1e30), 0.0).mean(dim=1), finite.to(losses).mean(dim=1)])
    if shared and dist.is_available() and dist.is_initialized():
        dist.all_reduce(seen)
    mean = seen[0] / seen[1].clamp(min=1e-12)
    return mean, (seen[1] > 0) & (mean != 0)


def group_sizes(ledger: Ledger, groups: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """How large the rows of each group are together, without gradient: what learned scales go by.

    Args:
        ledger: The raw losses.
        groups: Positions of the rows of each group.

    Returns:
        Sums of the batch means of those that said anything (`row_means`), float ``[G]``, and whether any did, bool
        ``[G]``.

    Example:
        >>> ledger = Ledger((Row("base"), Row("p", "a"), Row("p", "b")), torch.tensor([[1.0], [2.0], [torch.nan]]))
        >>> group_sizes(ledger, [[0], [1, 2], [2]])
        (tensor([1., 2., 0.]), tensor([ True,  True, False]))
    """
    mean, heard = row_means(ledger, shared=False)
    mean = mean.clamp(-1e12, 1e12)  # so that a gradient that runs away has a finite norm
    members = torch.zeros(len(groups), len(mean), dtype=torch.bool)
    for group, own in zip(groups, members, strict=True):
        own[list(group)] = True
    members = members.to(mean.device)
    return (members * mean).sum(dim=1), (members & heard).any(dim=1)


def gradient_only(scale: Tensor, sizes: Tensor) -> Tensor:
    """A sum of 0 with the gradient of ``(scale * sizes).sum()``: the loss has that sum already, behind gates.

    Example:
        >>> scale = torch.tensor([0.5, 2.0], requires_grad=True)
        >>> zero = gradient_only(scale, torch.tensor([3.0, 4.0]))
        >>> zero.detach(), torch.autograd.grad(zero, scale)
        (tensor(0.), (tensor([3., 4.]),))
    """
    return ((scale - scale.detach()) * sizes).sum()


def whole(weights: Tensor, rows: Sequence[Row], batchwise: Collection[str]) -> Tensor:
    """Weights ``[K, B]`` with one weight, their mean, for each row whose loss cannot be split among the samples.

    Example:
        >>> whole(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), (Row("logits", "a"), Row("whole", "a")), {"whole"})
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000]])
    """
    at = [k for k, row in enumerate(rows) if row.teacher is not None and row.path in batchwise]
    if not at:
        return weights
    weights = weights.clone()
    weights[at] = weights[at].mean(dim=1, keepdim=True).expand_as(weights[at])
    return weights


def silence(weights: Tensor, ledger: Ledger) -> Tensor:
    """Give weight 0 to entries whose loss is not finite, so that they reach neither a scale nor the sum.

    Rows of the task itself keep their weight: a task loss that is not finite should be seen.

    Args:
        weights: ``[K, 1]`` or ``[K, B]``.
        ledger: The raw losses.

    Returns:
        ``[K, B]``, with the gradient of `weights` where the loss is finite.

    Example:
        >>> ledger = Ledger((Row("logits", "big"),), torch.tensor([[1.0, torch.nan]]))
        >>> silence(torch.ones(1, 1), ledger)
        tensor([[1., 0.]])
    """
    heard = ledger.losses.detach().isfinite()
    heard[[k for k, row in enumerate(ledger.rows) if row.teacher is None]] = True
    return torch.where(heard, weights, 0.0)


def shown(weights: Tensor, ledger: Ledger) -> Tensor:
    """Give weight 1 to rows of the task itself without any finite loss, for rules that weigh the task by its mean.

    Such a row has no mean. Without weight it would be hidden, and the step would look sound.

    Args:
        weights: ``[K, 1]``.
        ledger: The raw losses.

    Returns:
        ``[K, 1]``.

    Example:
        >>> shown(torch.zeros(1, 1), Ledger((Row("base"),), torch.tensor([[torch.nan]])))
        tensor([[1.]])
    """
    lost = ~ledger.losses.detach().isfinite().any(dim=1, keepdim=True)
    lost[[k for k, row in enumerate(ledger.rows) if row.teacher is not None]] = False
    return torch.where(lost, 1.0, weights)


def bounded(learned: Tensor, bound: float) -> Tensor:
    """A parameter clipped to ``[-bound, bound]``, with gradient as if it were not, so that it can come back.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> y = bounded(x, 2.0)
        >>> y.detach(), torch.autograd.grad(y, x)
        (tensor([2.]), (tensor([1.]),))
    """
    return learned + (learned.clamp(-bound, bound) - learned).detach()
