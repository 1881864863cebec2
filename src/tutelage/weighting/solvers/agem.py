"""A-GEM: what is taught may not turn the task's gradient around, nor drown it."""

from typing import ClassVar

import torch
from torch import Tensor

from tutelage.errors import InputError

from .base import Solver


class AGEM(Solver):
    """Protect the task's gradient, the first, from the sum of all others.

    If the sum is longer than `cap` times the task's gradient, it is shortened to that; what of it points against the
    task is then taken away. The direction thus never raises the task's loss on the batch to first order, and `cap`
    bounds what is done at right angles, which to second order raises it all the same. Nothing protects the others from
    the task, or from each other; and what is seen is the batch that is trained on, not what the student will be asked.

    Where the task has no gradient, there is nothing to compare with, and all weights are 1. Without labels it is
    refused.

    Args:
        cap: Longest sum of what is taught, in lengths of the task's gradient; above 0, infinity for any.
        slack: How much of the task's gradient has to be left in its own direction, in [0, 1]. At 1 nothing is taken.

    Raises:
        InputError: A number is out of its range.

    Reference:
        Chaudhry et al. 2019, "Efficient lifelong learning with A-GEM", arXiv:1812.00420, eq. 11, with the task in the
        place of what was learned before. Deviations: `cap` and `slack`.

    Example:
        >>> AGEM()(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]))
        tensor([1.5000, 1.0000], dtype=torch.float64)
        >>> AGEM(cap=2)(torch.tensor([[1.0, 0.0], [0.0, 16.0]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """

    needs_task: ClassVar[bool] = True

    def __init__(self, *, cap: float = 4.0, slack: float = 1.0) -> None:
        super().__init__()
        if not cap > 0 or not 0 <= slack <= 1:
            raise InputError(f"AGEM: expected cap above 0 and slack in [0, 1]; found {cap} and {slack}.")
        self.cap = cap
        self.slack = slack
        self.own = 1

    def bind(self, objectives: int, own: int = 1) -> None:
        """Learn how many gradients, the first ones, add up to the task's."""
        self.own = own

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """The task's weight, at least 1, and that of all others, at most 1; float64 ``[K]``."""
        square = gramian.double()
        own = (torch.arange(len(square)) if at is None else at.cpu()) < self.own
        weights = torch.ones(len(square), dtype=torch.float64)
        task = square[own][:, own].sum()
        if task > 0:
            taught = square[~own][:, ~own].sum().clamp(min=0).sqrt()
            shrunk = (self.cap * task.sqrt() / taught).clamp(max=1)  # a sum of 0 divides to infinity
            along = shrunk * square[own][:, ~own].sum() / task
            weights[own] += (self.slack - 1 - along).clamp(min=0)
            weights[~own] = shrunk
        return weights
