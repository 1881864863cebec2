"""IMTL: losses of one size, gradients of one projection."""

from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec

from .base import bounded, gradient_only, group_sizes
from .by_gradient import PARAMETERS, ByGradient
from .solvers import IMTLG


class IMTL(ByGradient):
    """Learn a log-scale for each row so that losses become equal, and weigh the scaled gradients by IMTL-G.

    With ``s_k`` the log-scale, each row adds ``exp(s_k) * L_k - s_k`` to what the log-scales minimise: at rest
    ``exp(s_k) = 1 / L_k``. Weights are those of `IMTLG` on the scaled rows times ``exp(s_k)``. They may be negative,
    and grow large where gradients are nearly opposite. Losses should be positive. As in `Adaptive`, gates are not seen,
    and rows that say nothing in a batch leave their log-scales as they are.

    Args:
        init: Log-scale at the start.
        bound: Log-scales stay within ``[-bound, bound]``; 0 or more.
        wrt, by, every, exact, clamp: As for `ByGradient`.

    Reference:
        Liu et al. 2021, "Towards impartial multi-task learning", algorithm 1. Deviations: log-scales have a bound,
        and no weight decay; as in published code the log-scales follow the losses alone, not IMTL-G's weights.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Row, Spec
        >>> student, rows = nn.Linear(2, 1, bias=False), (Row("base"), Row("logits", "big"))
        >>> rule = IMTL()
        >>> rule.bind(rows, Spec(call=None, taps={}, student=student))
        >>> losses = torch.stack([student.weight[0, :1], 3 * student.weight[0, 1:]])
        >>> rule(Ledger(rows, losses), None).detach().flatten()
        tensor([0.7500, 0.2500])
    """

    def __init__(
        self,
        *,
        init: float = 0.0,
        bound: float = 10.0,
        wrt: str = PARAMETERS,
        by: Literal["row", "path"] = "row",
        every: int = 1,
        exact: bool = True,
        clamp: bool = False,
    ) -> None:
        super().__init__(IMTLG(), wrt=wrt, by=by, every=every, exact=exact, clamp=clamp)
        if not (0 <= bound < 80 and abs(init) <= bound):
            raise InputError(f"IMTL: expected bound in [0, 80) and init within it; found {bound} and {init}.")
        self.init = init
        self.bound = bound
        self.log_scale = nn.Parameter(torch.zeros(0))
        self._sizes = torch.zeros(0), torch.zeros(0, dtype=torch.bool)

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Make one log-scale for each row, or path."""
        super().bind(rows, spec)
        self.log_scale = nn.Parameter(torch.full((len(self._groups),), self.init, device=self.log_scale.device))
        self._sizes = torch.zeros_like(self.log_scale.detach()), torch.zeros_like(self.log_scale, dtype=torch.bool)

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient: the log-scales learn from the penalty alone."""
        self._sizes = group_sizes(ledger, self._groups)
        return super().forward(ledger, lesson)

    def decide(self, products: Tensor, losses: Tensor, at: Tensor) -> Tensor:
        """IMTL-G of the scaled rows, as weights of the rows themselves."""
        scale = bounded(self.log_scale, self.bound).detach().cpu().double().exp()[at]
        return super().decide(products * scale[:, None] * scale, losses * scale, at) * scale

    def penalty(self) -> Tensor | float:
        """Minus the sum of the log-scales of rows that were heard, with the gradient of the whole."""
        sizes, heard = self._sizes
        log_scale = bounded(self.log_scale, self.bound)
        return gradient_only(log_scale.exp(), sizes) - (heard * log_scale).sum()

    @torch.no_grad()
    def after_step(self, probe: Probe | None = None) -> None:
        """Count the step; bring log-scales that left the bound back to it."""
        super().after_step(probe)
        self.log_scale.clamp_(-self.bound, self.bound)
