"""Ease paths in."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec

from .base import Weighting, per_row


class Warmup(Weighting):
    """A factor that grows linearly from `start` to 1 over the first optimizer steps.

    Args:
        steps: Optimizer steps until the factor is 1, 0 or more.
        paths: Names of the paths or rows to ease in; None means all that have a teacher.
        start: Factor at the first step, in [0, 1].

    Raises:
        UnknownName: At `bind`, for a name that is neither a path nor a row.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Row, Spec
        >>> rows = (Row("base"), Row("logits", "big"))
        >>> gate = Warmup(4)
        >>> gate.bind(rows, Spec(call=None, taps={}))
        >>> gate.after_step()
        >>> gate(Ledger(rows, torch.ones(2, 1)), None).flatten()
        tensor([1.0000, 0.2500])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    step: Tensor
    eased: Tensor

    def __init__(self, steps: int, *, paths: Sequence[str] | None = None, start: float = 0.0) -> None:
        super().__init__()
        if steps < 0 or not 0 <= start <= 1:
            raise InputError(f"Warmup: expected steps of 0 or more and start in [0, 1]; found {steps} and {start}.")
        self.steps = steps
        self.paths = None if paths is None else tuple(paths)
        self.start = start
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("eased", torch.zeros(0), persistent=False)

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Find the rows that are eased in."""
        super().bind(rows, spec)
        named = dict.fromkeys(self.paths or (), 1.0)
        chosen = per_row(named, rows, default=1.0 if self.paths is None else 0.0)
        taught = [c if row.teacher is not None else 0.0 for c, row in zip(chosen, rows, strict=True)]
        self.eased = torch.tensor(taught, device=self.step.device)[:, None]

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The factors of this step, ``[K, 1]``, in [0, 1]."""
        return (1 - self.eased * (1 - self.factor())).to(ledger.losses.dtype)

    def factor(self) -> Tensor:
        """That of this step, in [start, 1]."""
        done = (self.step / self.steps).clamp(max=1.0) if self.steps else torch.ones_like(self.eased[0])
        return self.start + (1 - self.start) * done

    def after_step(self, probe: Probe | None = None) -> None:
        """Count the step."""
        self.step += 1
