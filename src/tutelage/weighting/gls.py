"""Geometric loss: the product of the losses instead of their sum."""

import torch
from torch import Tensor

from tutelage.ledger import Ledger, Lesson

from .base import Weighting, row_means, shown, silence


class GLS(Weighting):
    """Weigh each row so that the gradient is that of the geometric mean of all losses.

    With ``G = (L_1 … L_K) ** (1 / K)``, the weight of row k is ``G / (K * L_k)``, without gradient into it: the
    loss of a step is G and every row pulls with the gradient of its logarithm, whatever its units. The task's own rows
    are among them, so that their weight is not 1. As in `Adaptive`, a path that is easily minimised grows heavier and
    none is judged by whether it helps. Losses have to be positive: a row whose batch mean is 0 or less has no
    logarithm, and has weight 0 in that step. Several processes share their means.

    Reference:
        Chennupati et al. 2019, "MultiNet++: multi-stream feature aggregation and geometric loss strategy for
        multi-task learning", arXiv:1904.08492. Widely used code multiplies the losses as they are, which leaves the
        range of numbers for many rows; here their logarithms are averaged.

    Example:
        >>> from tutelage.ledger import Row, Spec
        >>> rows = (Row("base"), Row("logits", "big"))
        >>> rule = GLS()
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> rule(Ledger(rows, torch.tensor([[1.0], [4.0]])), None).flatten()
        tensor([1.0000, 0.2500])
    """

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient."""
        mean, _ = row_means(ledger, shared=self.training and torch.is_grad_enabled())
        heard = mean > 0
        log_mean = torch.where(heard, mean, 1.0).log()
        rows = heard.sum().clamp(min=1)
        # Within the range of numbers: a loss of 1e-30 beside one of 1e30 is no reason for an infinite weight.
        weights = ((log_mean.sum() / rows - log_mean).clamp(max=80.0).exp() / rows) * heard
        return silence(shown(weights[:, None].to(ledger.losses.dtype), ledger), ledger)
