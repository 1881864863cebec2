"""Adaptive distillation: one learned log-scale for each path."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec

from .base import Weighting, bounded, by_path, gradient_only, group_sizes, silence


class Adaptive(Weighting):
    """Learn the scale of each path together with the student.

    With one log-scale ``s_k`` for each path, the loss is the task's plus ``distill_weight`` times the sum of
    ``exp(-s_k) * L_k + s_k``.
    At rest ``exp(s_k) = L_k``: every path pulls as ``log L_k`` would, whatever its units. This equalises
    sizes and nothing else: a harmful path that is easily minimised grows heavier, so put a gate beside it.
    Losses should be positive; a loss with a floor above zero is taken to be harder than it is.

    Gates come after and are not seen: a path behind a gate of 0.1 pulls a tenth as hard. Where one shares a path among
    K teachers, it pulls 1 / K times as hard, unless each has a scale of its own (`per`). Rows that say nothing in a
    batch (not finite, or all of it masked) leave the scales as they are.

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
        self._groups: list[list[int]] = []
        self._sizes = torch.zeros(0), torch.zeros(0, dtype=torch.bool)

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Make one log-scale for each path, or row."""
        super().bind(rows, spec)
        paths = list(by_path(rows).values())
        self._groups = paths if self.per == "path" else [[k] for k, row in enumerate(rows) if row.teacher is not None]
        self.log_scale = nn.Parameter(torch.full((len(self._groups),), self.init, device=self.log_scale.device))
        self._sizes = torch.zeros_like(self.log_scale.detach()), torch.zeros_like(self.log_scale, dtype=torch.bool)

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient: the log-scales learn from the penalty alone."""
        self._sizes = group_sizes(ledger, self._groups)
        weights = ledger.losses.new_ones(len(ledger.rows))
        scale = self.distill_weight * (-bounded(self.log_scale.detach(), self.bound)).exp()
        for each, group in zip(scale.to(weights), self._groups, strict=True):
            weights[group] = each
        return silence(weights[:, None], ledger)

    def penalty(self) -> Tensor | float:
        """``distill_weight`` times the sum of the log-scales of what was heard, with the gradient of the whole."""
        sizes, heard = self._sizes
        log_scale = bounded(self.log_scale, self.bound)
        return self.distill_weight * (gradient_only((-log_scale).exp(), sizes) + (heard * log_scale).sum())

    @torch.no_grad()
    def after_step(self, probe: Probe | None = None) -> None:
        """Bring log-scales that left the bound back to it."""
        self.log_scale.clamp_(-self.bound, self.bound)
