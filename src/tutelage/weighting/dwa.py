"""Dynamic weight average: rows that lag behind get more."""

import torch
from torch import Tensor

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, row_means, silence


class DWA(Weighting):
    """Weigh each row by how slowly its loss fell from one epoch to the next.

    With ``r_k`` the mean loss of row k in the last epoch over that in the epoch before, the weight of each of K rows is
    ``K * softmax(r / temperature)_k``; in the first two epochs it is 1. Sizes play no part, so put `Calibrate`
    beside it. A row that cannot be fitted has the largest ratio, 1, and grows heaviest whether it helps or not: put a
    gate beside it, too. Losses should be positive; a row that is not, or that said nothing in an epoch, counts as one
    that stands still. Several processes share their means.

    Args:
        temperature: Above 0; the larger, the more equal the weights.
        base: Weigh the task's own rows, too, as the paper does; their weight is then not 1.

    Reference:
        Liu, Johns, Davison 2019, "End-to-end multi-task learning with attention", arXiv:1803.10704, eq. 7.
        Deviation: the task keeps weight 1, and K counts the rows that have a teacher, unless `base`.

    Example:
        >>> rows = (Row("base"), Row("logits", "big"), Row("layer3", "big"))
        >>> rule = DWA(temperature=1.0)
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> for layer3 in (1.0, 0.5):
        ...     weights = rule(Ledger(rows, torch.tensor([[1.0], [1.0], [layer3]])), None)
        ...     rule.end_epoch()
        >>> rule(Ledger(rows, torch.ones(3, 1)), None).flatten()
        tensor([1.0000, 1.2449, 0.7551])
    """

    mean: Tensor
    count: Tensor
    last: Tensor
    before: Tensor

    def __init__(self, *, temperature: float = 2.0, base: bool = False) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"DWA: expected temperature above 0; found {temperature}.")
        self.temperature = temperature
        self.base = base
        self._weighed: list[int] = []
        for name in ("mean", "count", "last", "before"):
            self.register_buffer(name, torch.zeros(0))

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Forget all epochs."""
        super().bind(rows, spec)
        self._weighed = [k for k, row in enumerate(rows) if self.base or row.teacher is not None]
        for name in ("mean", "count", "last", "before"):
            setattr(self, name, torch.zeros(len(rows), device=self.mean.device))

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this epoch, ``[K, B]``, without gradient; measures while training."""
        if self.training and torch.is_grad_enabled():
            mean, heard = row_means(ledger, shared=True)
            self.count += heard
            self.mean += torch.where(heard, mean - self.mean, 0.0) / self.count.clamp(min=1)
        known = (self.last > 0) & (self.before > 0)
        ratio = torch.where(known, self.last / self.before, 1.0).nan_to_num(posinf=1e30)[self._weighed]
        weights = ledger.losses.new_ones(len(ledger.rows))
        weights[self._weighed] = (len(self._weighed) * (ratio / self.temperature).softmax(dim=0)).to(weights.dtype)
        return silence(weights[:, None], ledger)

    def end_epoch(self) -> None:
        """The means of this epoch become those of the last."""
        heard = self.count > 0
        self.before = self.last
        self.last = torch.where(heard, self.mean, self.last)
        self.mean = torch.zeros_like(self.mean)
        self.count = torch.zeros_like(self.count)
