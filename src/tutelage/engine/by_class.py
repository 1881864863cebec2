"""How much each teacher was heard for each true class."""

from typing import Any

import torch
from torch import Tensor, nn

from tutelage.ledger import Step
from tutelage.weighting import Weighting

from . import processes

MOST = 1000
"""Of more classes than this nothing is kept."""


class ByClass:
    """Sums of the weights of each row by the true class of the samples, kept on the device.

    Args:
        weighting: Sums are kept only where it weighs single samples.
        classes: How many classes there are.
    """

    def __init__(self, weighting: nn.Module, classes: int) -> None:
        rules = [part for part in weighting.modules() if isinstance(part, Weighting)]
        self.kept = 0 < classes <= MOST and any(rule.per_sample for rule in rules)
        self.classes = classes
        self.rows: tuple[str, ...] = ()
        self.sums: Tensor | None = None

    def add(self, step: Step) -> None:
        """Add a step; samples without a label are left out."""
        batch = step.lesson.batch
        if not self.kept or batch.target.ndim != 1 or batch.target.is_floating_point():
            return
        self.rows = tuple(row.name for row in step.ledger.rows)
        weights = step.weights.float().expand(len(self.rows), len(batch))
        entries = torch.cat([weights, torch.ones_like(weights[:1])])
        if self.sums is None:
            self.sums = entries.new_zeros(len(entries), self.classes)
        self.sums = self.sums.to(entries.device)
        self.sums.index_add_(1, batch.target.clamp(0, self.classes - 1), entries * batch.labelled)

    def read(self) -> dict[str, Any] | None:
        """Mean weights since the last call by row, one for each class, and how many samples; one transfer.

        Over all processes, each of which has to ask.

        Returns:
            ``{"weights": {row: [mean or None]}, "samples": [count]}``; None where nothing was kept.
        """
        if self.sums is None:
            return None
        *sums, samples = processes.total(self.sums).tolist()
        self.sums = None
        means = {
            row: [round(total / count, 5) if count else None for total, count in zip(each, samples, strict=True)]
            for row, each in zip(self.rows, sums, strict=True)
        }
        return {"weights": means, "samples": [int(count) for count in samples]}
