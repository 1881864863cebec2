"""Scales and gates together: their product."""

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec

from .base import Weighting, silence


class Product(Weighting):
    """The product of scales and gates.

    Every scale reads the same raw ledger; what a gate shuts stays shut whatever the scales say.

    Args:
        scales: One scale or several; none means weight 1 everywhere.
        gates: Any number of gates.

    Raises:
        InputError: A gate among the scales, or a scale among the gates.

    Example:
        >>> from tutelage.weighting import Fixed, Trust
        >>> Product(Fixed({"logits": 2.0}), gates=[Trust()]).kind
        'scale'
    """

    def __init__(self, scales: Weighting | Sequence[Weighting] = (), gates: Sequence[Weighting] = ()) -> None:
        super().__init__()
        self.scales = nn.ModuleList([scales] if isinstance(scales, Weighting) else scales)
        self.gates = nn.ModuleList(gates)
        for part, kind in chain(((s, "scale") for s in self.scales), ((g, "gate") for g in self.gates)):
            if not isinstance(part, Weighting) or part.kind != kind:
                found = f"a {part.kind}" if isinstance(part, Weighting) else "no weighting"
                raise InputError(
                    f"Product: expected a {kind}, found {type(part).__name__}, which is {found}. "
                    "Scales go into `scales`, gates into `gates`."
                )

    @property
    def parts(self) -> Iterable[Weighting]:
        """All scales, then all gates."""
        return chain(self.scales, self.gates)  # type: ignore[arg-type]

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Bind every part."""
        super().bind(rows, spec)
        for part in self.parts:
            part.bind(rows, spec)

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The product of all parts, ``[K, B]``; 0 where a gate is shut or a loss is not finite."""
        weights = ledger.losses.new_ones(len(ledger.rows), 1)
        for scale in self.scales:
            weights = weights * scale(ledger, lesson)
        for gate in self.gates:
            factor = gate(ledger, lesson)
            weights = torch.where(factor == 0, 0.0, weights) * factor
        return silence(weights, ledger)

    def elements(self, lesson: Lesson) -> dict[str, Tensor]:
        """The product of what the parts say of a row."""
        found: dict[str, Tensor] = {}
        for part in self.parts:
            for row, weight in part.elements(lesson).items():
                found[row] = weight * found[row] if row in found else weight
        return found

    def kept_off(self) -> dict[str, float]:
        """The rows that any part keeps off the student."""
        return {row: size for part in self.parts for row, size in part.kept_off().items()}

    def taps(self) -> tuple[str, ...]:
        """The taps of every part."""
        return tuple(tap for part in self.parts for tap in part.taps())

    def penalty(self) -> Tensor | float:
        """The sum of the parts' penalties."""
        return sum((part.penalty() for part in self.parts), start=0.0)

    def asks(self) -> int | None:
        """What the first part that asks wants to hear about; the others hear it, too."""
        return next((look for part in self.parts if (look := part.asks()) is not None), None)

    def hears(self, ledger: Ledger, lesson: Lesson) -> None:
        """Tell every part that asks."""
        for part in self.parts:
            if part.asks() is not None:
                part.hears(ledger, lesson)

    def after_step(self, probe: Probe | None = None) -> None:
        """Tell every part."""
        for part in self.parts:
            part.after_step(probe)

    def news(self) -> list[str]:
        """The news of every part."""
        return [line for part in self.parts for line in part.news()]

    def end_epoch(self) -> None:
        """Tell every part."""
        for part in self.parts:
            part.end_epoch()
