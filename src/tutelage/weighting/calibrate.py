"""Bring every path to a comparable size, once, from what the first steps say."""

import math
from collections.abc import Collection, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from tutelage.errors import InputError, UnknownName, close_names
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, by_path, per_row, silence
from .gramian import shared_mean

RUNAWAY = 10.0
"""How many times as large as when it was measured a loss may be before its weight falls; below 0, once."""


class Calibrate(Weighting):
    """Scale each row so that, over the first steps, it is as large as the task's own loss.

    The weight of a row is ``target * mean(task loss) / mean(row)``. Both means run over the first
    `steps` training batches (usable from the first one) and are then frozen: a scale that went on
    following a loss towards zero would grow without bound, and would feed a harmful path that is
    easily minimised. Entries that are not finite and batches where a row is not positive (everything
    masked, no labels) are not measured. Without any labelled batch the task's loss is taken to be
    the logarithm of the number of classes, or 1. Several processes share their means.

    A loss without a floor can run away, the faster the farther it has gone where it has layers of its own. So the
    weight of a row whose mean is more than ten times as large as it was, or as far below 0 as it was above, falls with
    the square of that, and what has run far is not heard; here, too, several processes share their means. A row that
    was never positive has no size: it counts as being as large as the task's loss, and weighs 1 at most.

    Args:
        target: Size of a row relative to the task's loss, 0 or more: one number, or path or row name ->
            number, with 1 for those not named.
        steps: Batches to measure, at least 1.
        mean: Divide each row by the number of teachers on its path. Leave it off beside `Trust`, which
            already shares a path among its teachers.
        limit: Before `target`, a weight stays within ``[1 / limit, limit]``: one number of at least 1, or
            path or row name -> number, with 10000 for those not named.
        joint: Paths whose teachers share one scale, that of the mean of their rows: where the rows of a path are in
            the same units, a teacher that says next to nothing should not be blown up to the size of the others.

    Raises:
        InputError: A number is out of its range.
        UnknownName: At `bind`, for a name that is neither a path nor a row.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
        >>> rows = (Row("base"), Row("logits", "big"))
        >>> rule = Calibrate(target=0.5)
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> one = torch.ones(1, dtype=torch.int64)
        >>> lesson = Lesson(Batch(one, one, one, one, labelled=one.bool()), {}, {}, {})
        >>> rule(Ledger(rows, torch.tensor([[2.0], [100.0]])), lesson).flatten()
        tensor([1.0000, 0.0100])
    """

    row_target: Tensor
    row_limit: Tensor
    measured: Tensor
    count: Tensor

    def __init__(
        self,
        target: float | Mapping[str, float] = 1.0,
        *,
        steps: int = 20,
        mean: bool = False,
        limit: float | Mapping[str, float] = 1e4,
        joint: Collection[str] = (),
    ) -> None:
        super().__init__()
        if steps < 1 or min(limit.values() if isinstance(limit, Mapping) else [limit], default=1) < 1:
            raise InputError(f"Calibrate: expected steps and limit to be at least 1; found {steps} and {limit}.")
        self.target = target
        self.steps = steps
        self.mean = mean
        self.limit = limit
        self.joint = frozenset(joint)
        self._together: list[list[int]] = []
        self.fallback = 1.0
        self._frozen = False
        self.register_buffer("row_target", torch.ones(0), persistent=False)
        self.register_buffer("row_limit", torch.ones(0), persistent=False)
        self.register_buffer("measured", torch.zeros(0))
        self.register_buffer("count", torch.zeros(0))

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Look the targets up and start measuring anew."""
        super().bind(rows, spec)
        targets = per_row(self.target, rows, default=1.0)
        limits = per_row(self.limit, rows, default=1e4)
        paths = by_path(rows)
        if unknown := sorted(self.joint - set(paths)):
            raise UnknownName(f"Calibrate: joint: no path {unknown[0]!r}; {close_names(unknown[0], paths)}.")
        self._together = [members for path, members in paths.items() if path in self.joint and len(members) > 1]
        if self.mean:
            for members in paths.values():
                for k in members:
                    targets[k] /= len(members)
        self.fallback = math.log(len(spec.classes)) if len(spec.classes) > 1 else 1.0
        self.row_target = torch.tensor(targets, device=self.count.device)
        self.row_limit = torch.tensor(limits, device=self.count.device)
        self.measured = torch.zeros(len(rows), device=self.count.device)
        self.count = torch.zeros(len(rows), device=self.count.device)
        self._frozen = False

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient; measures while training."""
        own = torch.tensor([row.teacher is None for row in ledger.rows], device=ledger.losses.device)
        total, count = self.measured, self.count
        learning = self.training and torch.is_grad_enabled()
        if not self._frozen:
            total, count = self._measure(ledger, lesson, own, shared=learning)
            if learning:
                self.measured.copy_(total)
                self.count.copy_(count)
                self._frozen = bool((count >= self.steps).all())
        mean, count = self._joined(total / count.clamp(min=1), count)
        base = (mean * own).sum()
        base = torch.where(base > 0, base, self.fallback)
        size = torch.where(count > 0, mean, base)
        scale = (base / size).clamp(1 / self.row_limit, self.row_limit) * self.row_target
        scale = torch.where(count > 0, scale, scale.clamp(max=1.0))
        now = ledger.losses.detach().float().nan_to_num(0.0, 0.0, 0.0).mean(1)
        now = shared_mean(now) if learning else now  # else not all processes may be here
        far = torch.maximum(now / RUNAWAY, -now) / size
        weights = torch.where(own, 1.0, scale / far.clamp(min=1).square())[:, None]
        return silence(weights.to(ledger.losses.dtype), ledger)

    def _joined(self, mean: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """The means, of the rows of a joint path those of all that were measured."""
        if not self._together:
            return mean, count
        mean, count = mean.clone(), count.clone()
        for members in self._together:
            known = (count[members] > 0).to(mean)
            mean[members] = (mean[members] * known).sum() / known.sum().clamp(min=1)
            count[members] = count[members].max()
        return mean, count

    def _measure(self, ledger: Ledger, lesson: Lesson, own: Tensor, *, shared: bool) -> tuple[Tensor, Tensor]:
        """The sums and counts of batch means with this batch added, where a row still needs it."""
        losses = ledger.losses.detach().float()
        finite = losses.isfinite()
        mean = torch.where(finite, losses.clamp(max=1e12), 0.0).sum(1) / finite.sum(1).clamp(min=1)
        usable = (mean > 0) & (~own | lesson.batch.labelled.any())
        seen = torch.stack([torch.where(usable, mean, 0.0), usable.float()])
        if shared and dist.is_available() and dist.is_initialized():
            dist.all_reduce(seen)
        new = seen[0] / seen[1].clamp(min=1)
        wanted = (seen[1] > 0) & (self.count < self.steps)
        return self.measured + torch.where(wanted, new, 0.0), self.count + wanted
