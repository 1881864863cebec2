"""FAMO: all losses fall at one rate, told from what each step did to them."""

import math

import torch
from torch import Tensor

from tutelage.errors import InputError
from tutelage.ledger import Batch, Ledger, Lesson, Probe, Row, Spec

from .adam import Adam
from .base import Weighting, row_means, shown, silence

FLOOR = 1e-8


class FAMO(Weighting):
    """Weigh the rows so that all losses fall at one rate.

    With a preference ``p_k`` a row, the weights are the softmax of ``p_k - log(L_k)``: they sum to 1, whatever the
    units of the losses. After each step the losses of the same batch are taken again, and preferences learn by Adam:
    a row whose logarithm fell faster than the others' gets less. A row that cannot be fitted does not fall and grows
    heavier and heavier, whether it helps or not: put a gate beside it.

    A step costs one more forward of the student and its teachers, without gradient; batch norms keep their statistics.
    Dropout and losses that draw at random are drawn anew, which adds noise. In evaluation and without gradients
    nothing is learned. Losses should be positive: a row whose batch mean is 0 or less has weight 0 in that step. One
    with a floor above 0 seems to fall more slowly than it does. Several processes share their means.

    Args:
        rate: Learning rate of the preferences, 0 or more.
        decay: Pulls the preferences together, 0 or more: it is added to their gradient, times the preference.
        base: Weigh the task's own rows, too, as the paper does; their weight is then not 1.

    Raises:
        InputError: `rate` or `decay` is negative or not finite.

    Reference:
        Liu, Feng, Stone, Liu 2023, "FAMO: fast adaptive multitask optimization", arXiv:2306.03792, algorithm 1.
        Deviations: the task keeps weight 1, and the weights of the other rows sum to 1, unless `base`; lowest losses
        are 0, as in published code. That code differs from itself in `decay` (0.01 or 0.001) and clips the gradient
        of the student to length 1, which here is the engine's `clip`.

    Example:
        >>> rows = (Row("base"), Row("logits", "big"), Row("layer3", "big"))
        >>> rule = FAMO(rate=0.5)
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> before = Ledger(rows, torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True))
        >>> rule(before, Lesson(None, {}, {}, {})).detach().flatten()
        tensor([1.0000, 0.5000, 0.5000])
        >>> rule.after_step(lambda batch: Ledger(rows, torch.tensor([[1.0], [1.0], [2.0]])))
        >>> rule(before, Lesson(None, {}, {}, {})).flatten()
        tensor([1.0000, 0.2689, 0.7311])
    """

    preference: Tensor

    def __init__(self, *, rate: float = 0.025, decay: float = 1e-3, base: bool = False) -> None:
        super().__init__()
        if not (0 <= rate < math.inf and 0 <= decay < math.inf):
            raise InputError(f"FAMO: expected rate and decay of 0 or more; found {rate} and {decay}.")
        self.rate = rate
        self.decay = decay
        self.base = base
        self._weighed: list[int] = []
        self._before: tuple[Batch, Tensor, torch.autocast] | None = None
        self.register_buffer("preference", torch.zeros(0))
        self.adam = Adam()

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Start without preferences."""
        super().bind(rows, spec)
        self._weighed = [k for k, row in enumerate(rows) if self.base or row.teacher is not None]
        self.preference = torch.zeros(len(self._weighed), device=self.preference.device)
        self.adam = Adam(len(self._weighed)).to(self.preference.device)
        self._before = None

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient; remembers the batch while training."""
        learning = self.training and torch.is_grad_enabled()
        log_mean = self._log_means(ledger, shared=learning)
        if learning:
            device = ledger.losses.device.type
            precision = torch.autocast(
                device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device)
            )
            self._before = lesson.batch, log_mean, precision
        score = torch.where(log_mean.isnan(), -torch.inf, self.preference - log_mean)
        weights = ledger.losses.new_ones(len(ledger.rows))
        weights[self._weighed] = score.softmax(dim=0).nan_to_num(nan=0.0).to(weights)
        return silence(shown(weights[:, None], ledger), ledger)

    @torch.no_grad()
    def after_step(self, probe: Probe | None = None) -> None:
        """Take the losses of the same batch again, in the same precision, and learn from how far they fell."""
        if self._before is None or probe is None:
            return
        (batch, before, precision), self._before = self._before, None
        with precision:
            after = self._log_means(probe(batch), shared=True)
        fell = before - after
        share = torch.where(fell.isnan(), 0.0, self.preference.softmax(dim=0))
        usual = (share * fell.nan_to_num(nan=0.0)).sum() / share.sum().clamp(min=1e-12)
        slope = share * (fell.nan_to_num(nan=0.0) - usual)
        self.preference = self.adam(self.preference, slope, rate=self.rate, decay=self.decay)

    def _log_means(self, ledger: Ledger, *, shared: bool) -> Tensor:
        """Logarithms of the batch means of the rows that are weighed; NaN where they have none."""
        mean, heard = row_means(ledger, shared=shared)
        return torch.where(heard & (mean > 0), mean + FLOOR, torch.nan).log()[self._weighed]
