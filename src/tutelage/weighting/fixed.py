"""Weights that are given and stay."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, by_path, per_row, silence


class Fixed(Weighting):
    """Constant weights by path or by path and teacher.

    Args:
        weights: Path name (``"layer3"``) or row name (``"layer3/big"``, which wins) -> weight, 0 or more.
        base: Weight of the task's own rows.
        default: Weight of rows that are not named.
        mean: Divide each row by the number of teachers on its path, so that a path is the mean over its
            teachers instead of their sum: with equal weights this is the AVER baseline (You et al. 2017).

    Raises:
        UnknownName: At `bind`, for a name that is neither a path nor a row.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Lesson, Row, Spec
        >>> rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
        >>> rule = Fixed({"logits": 0.9}, base=0.1, mean=True)
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> rule(Ledger(rows, torch.ones(3, 1)), None).flatten()
        tensor([0.1000, 0.4500, 0.4500])
    """

    row_weight: Tensor

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        *,
        base: float = 1.0,
        default: float = 1.0,
        mean: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= base < float("inf"):
            raise InputError(f"Fixed: expected base to be a finite number, 0 or more; found {base}.")
        self.weights = dict(weights or {})
        self.base = base
        self.default = default
        self.mean = mean
        self.register_buffer("row_weight", torch.ones(0), persistent=False)

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Look the weights of all rows up."""
        super().bind(rows, spec)
        values = per_row(self.weights, rows, default=self.default)
        members = by_path(rows)
        for k, row in enumerate(rows):
            if row.teacher is None:
                values[k] = self.base
            elif self.mean:
                values[k] /= len(members[row.path])
        self.row_weight = torch.tensor(values, device=self.row_weight.device)[:, None]

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The given weights, ``[K, B]``; 0 where a loss is not finite."""
        return silence(self.row_weight.to(ledger.losses.dtype), ledger)
