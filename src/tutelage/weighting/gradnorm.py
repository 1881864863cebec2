"""GradNorm: weights under which all rows pull alike and learn at one rate."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .by_gradient import PARAMETERS, ByGradient
from .solvers.base import norms


class GradNorm(ByGradient):
    """Learn the weights so that all weighted gradients have one length, the longer the slower a row learns.

    The weights are ``K * softmax(p)``, with ``p`` learned: 1 each at first, and K together. With ``G_k`` the length
    of a row's weighted gradient and ``r_k`` its loss relative to its first losses, over the mean of all rows, ``p``
    minimises the sum of ``|G_k - mean(G) * r_k ** restoring|``. No row is judged by whether it helps: one that
    cannot be fitted pulls harder and harder.

    Args:
        restoring: How strongly slow rows are favoured; 0 makes all lengths equal.
        steps: Decisions whose mean losses are the first losses, 1 or more; usable from the first one.
        wrt, by, every, exact: As for `ByGradient`.

    Reference:
        Chen et al. 2018, "GradNorm", arXiv:1711.02257, algorithm 1 and eq. 2; `restoring` is its alpha. Deviations: a
        softmax in place of renormalised weights, as in widely used code; first losses are means over `steps` batches
        instead of the first value (the paper) or the first epoch with weights of 1 (that code); gradients with
        respect to all parameters, where the paper takes the last shared layer (`wrt`).

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Row, Spec
        >>> student, rows = nn.Linear(2, 1, bias=False), (Row("base"), Row("logits", "big"))
        >>> rule = GradNorm()
        >>> rule.bind(rows, Spec(call=None, taps={}, student=student))
        >>> _ = nn.init.ones_(student.weight)
        >>> losses = torch.stack([student.weight[0, :1], 3 * student.weight[0, 1:]])
        >>> rule(Ledger(rows, losses), None).detach().flatten(), rule.penalty().detach()
        (tensor([1., 1.]), tensor(2.))
    """

    first: Tensor
    seen: Tensor

    def __init__(
        self,
        *,
        restoring: float = 1.5,
        steps: int = 20,
        wrt: str = PARAMETERS,
        by: Literal["row", "path"] = "row",
        every: int = 1,
        exact: bool = True,
    ) -> None:
        super().__init__(nn.Identity(), wrt=wrt, by=by, every=every, exact=exact)
        if steps < 1 or not math.isfinite(restoring):
            raise InputError(
                f"GradNorm: expected steps of at least 1 and a finite restoring; found {steps} and {restoring}."
            )
        self.restoring = restoring
        self.steps = steps
        self.preference = nn.Parameter(torch.zeros(0))
        self.register_buffer("first", torch.zeros(0))
        self.register_buffer("seen", torch.zeros(0))
        self._balance: tuple[Tensor, Tensor, Tensor] | None = None

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Start with weights of 1 and without first losses."""
        super().bind(rows, spec)
        count, device = len(self._groups), self.preference.device
        self.preference = nn.Parameter(torch.zeros(count, device=device))
        self.first = torch.zeros(count, device=device)
        self.seen = torch.zeros(count, device=device)
        self._balance = None

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient: the preferences learn from the penalty alone."""
        self._balance = None
        return super().forward(ledger, lesson)

    def decide(self, products: Tensor, losses: Tensor, at: Tensor) -> Tensor:
        """The learned weights; what their lengths should be is kept for the penalty."""
        seen, first = self.seen.cpu().double(), self.first.cpu().double()
        count = seen[at]
        known = first[at] + torch.where(count < self.steps, (losses - first[at]) / (count + 1), 0.0)
        first[at], seen[at] = known, (count + 1).clamp(max=self.steps)
        self.first.copy_(first)
        self.seen.copy_(seen)
        weights = self._weights().detach().cpu().double()[at]
        length = norms(products)
        rate = (losses / torch.where(known > 0, known, 1.0)).clamp(min=0)
        rate = rate / rate.mean().clamp(min=1e-30)
        target = (weights * length).mean() * rate**self.restoring
        self._balance = length.to(self.preference), target.to(self.preference), at.to(self.preference.device)
        return weights

    def penalty(self) -> Tensor | float:
        """How far the lengths of the weighted gradients are from where they should be; 0 between decisions."""
        if self._balance is None:
            return 0.0 * self.preference.sum()
        length, target, at = self._balance
        return (self._weights()[at] * length - target).abs().nan_to_num(posinf=0.0).sum()

    def _weights(self) -> Tensor:
        return len(self.preference) * self.preference.softmax(dim=0)
