"""Adaptive distillation: one learned log-scale for each path."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec

from .base import Weighting, bounded, silence


class Adaptive(Weighting):
    """Learn the scale of each path together with the student.

    With one log-scale ``s_k`` for each path, the loss is the task's plus ``distill_weight`` times the sum of
    ``exp(-s_k) * L_k + s_k``.
    At rest ``exp(s_k) = L_k``: every path pulls as ``log L_k`` would, whatever its units. This equalises
    sizes and nothing else: a harmful path that is easily minimised grows heavier, so put a gate beside it.
    Losses should be positive; a loss with a floor above zero is taken to be harder than it is.

    Args:
        per: ``"path"``: the teachers of a path share a scale; ``"row"``: one for each path and teacher.
        distill_weight: Weight of all distillation relative to the task, 0 or more.
        init: Log-scale at the start.
        bound: Log-scales stay within ``[-bound, bound]``, weights within ``exp(±bound)``; 0 or more.

    Reference:
        Chennupati et al. 2021, "Adaptive distillation: aggregating knowledge from multiple paths",
        arXiv:2110.09674. Deviations: scales have a bound, and no weight decay.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Row, Spec
        >>> rows = (Row("base"), Row("logits", "big"))
        >>> rule = Adaptive(init=torch.tensor(4.0).log().item())
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> rule(Ledger(rows, torch.ones(2, 1)), None).detach().flatten()
        tensor([1.0000, 0.2500])
    """

    def __init__(
        self,
        *,
        per: Literal["path", "row"] = "path",
        distill_weight: float = 1.0,
        init: float = 0.0,
        bound: float = 10.0,
    ) -> None:
        super().__init__()
        if per not in ("path", "row"):
            raise InputError(f"Adaptive: expected per='path' or 'row'; found {per!r}.")
        if not (0 <= distill_weight < math.inf and 0 <= bound < 80 and abs(init) <= bound):
            raise InputError(
                "Adaptive: expected distill_weight of 0 or more, bound in [0, 80) and init within it; "
                f"found {distill_weight}, {bound} and {init}."
            )
        self.per = per
        self.distill_weight = distill_weight
        self.init = init
        self.bound = bound
        self.log_scale = nn.Parameter(torch.zeros(0))
        self._slots: list[int] = []
        self._taught: list[int] = []

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Make one log-scale for each path, or row."""
        super().bind(rows, spec)
        self._taught = [k for k, row in enumerate(rows) if row.teacher is not None]
        names = [rows[k].path if self.per == "path" else rows[k].name for k in self._taught]
        order = list(dict.fromkeys(names))
        self._slots = [order.index(name) for name in names]
        self.log_scale = nn.Parameter(torch.full((len(order),), self.init, device=self.log_scale.device))

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, with gradient into the log-scales."""
        scale = self.distill_weight * (-bounded(self.log_scale, self.bound)).exp().to(ledger.losses.dtype)
        weights = ledger.losses.new_ones(len(ledger.rows))
        weights[self._taught] = scale[self._slots]
        return silence(weights[:, None], ledger)

    def penalty(self) -> Tensor | float:
        """``distill_weight`` times the sum of the log-scales."""
        return self.distill_weight * bounded(self.log_scale, self.bound).sum()

    @torch.no_grad()
    def after_step(self, probe: Probe | None = None) -> None:
        """Bring log-scales that left the bound back to it."""
        self.log_scale.clamp_(-self.bound, self.bound)
