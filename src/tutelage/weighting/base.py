"""What every weighting has in common: it turns the ledger of a step into one weight per row or per entry."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError, RecipeError, UnknownName, close_names
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec


class Weighting(nn.Module):
    """A rule that says how much each entry of the ledger counts.

    A *scale* brings the rows to a common size: it may read the raw losses, without gradient into
    them. A *gate* comes after and says, by factors in [0, 1], whom to trust or when: no scale ever
    sees what a gate did. `Product` multiplies them.

    Rows of the task itself have weight 1 unless the rule says otherwise. Parameters belong to an
    optimizer group of their own, without weight decay.
    """

    kind: ClassVar[Literal["scale", "gate"]] = "scale"
    per_sample: ClassVar[bool] = False
    """Whether the samples of a row may get different weights."""
    averages: ClassVar[bool] = False
    """Whether, if so, a row whose loss cannot be split among the samples gets one weight, their mean."""
    rows: tuple[Row, ...] = ()

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Learn which rows there will be, check names and size parameters; called once, at build.

        Args:
            rows: The K rows of every ledger to come.
            spec: What is known before the first step.

        Raises:
            UnknownName: An option names a path or row that does not exist.
            RecipeError: The rule weighs single samples, and the loss of a path cannot be split among them.
        """
        self.rows = rows
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

    def taps(self) -> tuple[str, ...]:
        """Taps of the student that the rule reads, beside those of the paths."""
        return ()

    def penalty(self) -> Tensor | float:
        """What the rule adds to the loss to keep its own parameters in place."""
        return 0.0

    def after_step(self, probe: Probe | None = None) -> None:
        """Called once after each optimizer step."""

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
        if not 0 <= value < float("inf"):
            raise InputError(f"weighting: expected a finite number, 0 or more, for {name!r}; found {value}.")
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


def bounded(learned: Tensor, bound: float) -> Tensor:
    """A parameter clipped to ``[-bound, bound]``, with gradient as if it were not, so that it can come back.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> y = bounded(x, 2.0)
        >>> y.detach(), torch.autograd.grad(y, x)
        (tensor([2.]), (tensor([1.]),))
    """
    return learned + (learned.clamp(-bound, bound) - learned).detach()
