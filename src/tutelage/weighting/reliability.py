"""Hear each teacher by how well it knows the label, whatever the others know."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, per_row, whole
from .trust import label_doubts


class Reliability(Weighting):
    """Per sample, weigh each teacher by how well it knows the label.

    With ``ce_k`` teacher k's cross-entropy with the label at temperature 1, its rows get ``1 / (1 + ce_k)``: 1 where it
    is right and sure, 0.2 at a cross-entropy of 4. Nothing is shared: several teachers that are right count several
    times, and where all are wrong all are turned down together, which `Trust` does not do. Where labels are wrong, the
    teachers that know better are turned down.

    A teacher judged by soft labels never has weight 1. Samples without a label, and teachers whose answer does not line
    up with the labels, have weight 1. Over several positions (pixels, tokens) the cross-entropy is their mean. Where
    the loss of a path is one number for the whole batch, a teacher gets the mean of its weights.

    Args:
        paths: Names of the paths or rows that are weighed; None means all that have a teacher.

    Raises:
        RecipeError: At `bind`: no training sample has a label.
        UnknownName: At `bind`, for a name that is neither a path nor a row.

    Reference:
        Wu, Wu, Huang 2021, "One teacher is enough? Pre-trained language model distillation from multiple teachers",
        arXiv:2106.01023, the weight of its distillation loss. Deviations: where a teacher answers several positions,
        one weight for all of them; paths of features are weighed, too, unless `paths` leaves them out.

    Example:
        >>> from tutelage.ledger import Batch
        >>> rows = (Row("base"), Row("logits", "right"), Row("logits", "torn"))
        >>> gate = Reliability()
        >>> gate.bind(rows, Spec(call=None, taps={}))
        >>> one = torch.zeros(1, dtype=torch.int64)
        >>> said = {"right": {"": torch.tensor([[20.0, 0.0]])}, "torn": {"": torch.tensor([[0.0, 0.0]])}}
        >>> lesson = Lesson(Batch(one, one, one, one, torch.ones(1, dtype=torch.bool)), {}, said, {})
        >>> gate(Ledger(rows, torch.ones(3, 1)), lesson).flatten()
        tensor([1.0000, 1.0000, 0.5906])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    per_sample: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    def __init__(self, *, paths: Sequence[str] | None = None) -> None:
        super().__init__()
        self.paths = None if paths is None else tuple(paths)
        self._weighed: list[int] = []
        self._batchwise: frozenset[str] = frozenset()

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Find the rows that are weighed."""
        super().bind(rows, spec)
        chosen = per_row(dict.fromkeys(self.paths or (), 1.0), rows, default=1.0 if self.paths is None else 0.0)
        self._weighed = [k for k, row in enumerate(rows) if row.teacher is not None and chosen[k]]
        self._batchwise = spec.batchwise

    @torch.no_grad()
    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """Weights in [0, 1], ``[K, B]``, each for itself."""
        names = list(lesson.teachers)
        doubts = dict(zip(names, label_doubts([lesson.teachers[name].get("") for name in names], lesson), strict=True))
        weights = torch.ones_like(ledger.losses)
        for k in self._weighed:
            doubt = doubts.get(ledger.rows[k].teacher or "")
            if doubt is not None:
                weights[k] = (1 / (1 + doubt.nan_to_num(nan=0.0))).to(weights.dtype)
        return whole(weights, ledger.rows, self._batchwise)
