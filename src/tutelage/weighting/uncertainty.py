"""Uncertainty weighting: a learned variance for each loss."""

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec

from .base import Weighting, bounded, gradient_only, group_sizes, silence


class Uncertainty(Weighting):
    """Weigh each row by a learned variance, as if its loss were the error of a Gaussian.

    With ``s_k`` the logarithm of a variance, the loss is the sum of ``L_k / (2 exp(s_k)) + s_k / 2``; at rest
    ``exp(s_k) = L_k``.
    As in `Adaptive`, sizes are equalised and no path is judged by whether it helps, gates are not seen, and rows that
    say nothing in a batch leave their variances as they are.

    Args:
        base: Weigh the task's own rows, too, as the paper does; their weight is then not 1.
        init: Log-variance at the start.
        bound: Log-variances stay within ``[-bound, bound]``; 0 or more.

    Reference:
        Kendall, Gal, Cipolla 2018, "Multi-task learning using uncertainty to weigh losses", arXiv:1705.07115,
        eq. 7. Deviations: the factor 1/2 on every loss, classification included; variances have a bound.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Row, Spec
        >>> rows = (Row("base"), Row("logits", "big"))
        >>> rule = Uncertainty(init=0.0)
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> rule(Ledger(rows, torch.ones(2, 1)), None).detach().flatten()
        tensor([0.5000, 0.5000])
    """

    def __init__(self, *, base: bool = True, init: float = -0.5, bound: float = 10.0) -> None:
        super().__init__()
        if not (0 <= bound < 80 and abs(init) <= bound):
            raise InputError(f"Uncertainty: expected bound in [0, 80) and init within it; found {bound} and {init}.")
        self.base = base
        self.init = init
        self.bound = bound
        self.log_variance = nn.Parameter(torch.zeros(0))
        self._weighed: list[int] = []
        self._sizes = torch.zeros(0), torch.zeros(0, dtype=torch.bool)

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Make one log-variance for each row that is weighed."""
        super().bind(rows, spec)
        self._weighed = [k for k, row in enumerate(rows) if self.base or row.teacher is not None]
        sized = torch.full((len(self._weighed),), self.init, device=self.log_variance.device)
        self.log_variance = nn.Parameter(sized)
        self._sizes = torch.zeros_like(sized), torch.zeros_like(sized, dtype=torch.bool)

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient: the log-variances learn from the penalty alone."""
        self._sizes = group_sizes(ledger, [[k] for k in self._weighed])
        weights = ledger.losses.new_ones(len(ledger.rows))
        weights[self._weighed] = (0.5 * (-bounded(self.log_variance.detach(), self.bound)).exp()).to(weights.dtype)
        return silence(weights[:, None], ledger)

    def penalty(self) -> Tensor | float:
        """Half the sum of the log-variances of rows that were heard, with the gradient of the whole."""
        sizes, heard = self._sizes
        log_variance = bounded(self.log_variance, self.bound)
        return (gradient_only((-log_variance).exp(), sizes) + (heard * log_variance).sum()) / 2

    @torch.no_grad()
    def after_step(self, probe: Probe | None = None) -> None:
        """Bring log-variances that left the bound back to it."""
        self.log_variance.clamp_(-self.bound, self.bound)
