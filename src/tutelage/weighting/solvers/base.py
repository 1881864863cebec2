"""What every solver has in common: the inner products of K gradients in, K weights out."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class Solver(nn.Module):
    """A rule that weighs K gradients by their inner products alone.

    With ``g_k`` the gradients, the direction it stands for is the sum of ``w_k * g_k``. A solver works in float64,
    whatever it is given, and may remember earlier calls.
    """

    signed: ClassVar[bool] = False
    """Whether weights may be negative."""
    needs_task: ClassVar[bool] = False
    """Whether it sets the task's gradient apart, and so says nothing where there is none."""

    def bind(self, objectives: int, own: int = 1) -> None:
        """Learn what there will be; called once, at build. What was remembered is forgotten.

        Args:
            objectives: How many gradients at most.
            own: How many of these, the first ones, are the task's, for rules that set it apart.
        """

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """The weights of one step.

        Args:
            gramian: Inner products of the gradients, ``[K, K]``, symmetric and positive semi-definite.
            losses: Their losses, ``[K]``, for rules that look at them.
            at: Which of the objectives these are, int64 ``[K]``, where some are left out; None for all.

        Returns:
            Weights, float64 ``[K]``.
        """
        raise NotImplementedError


def norms(gramian: Tensor) -> Tensor:
    """Lengths of the gradients, ``[K]``.

    Example:
        >>> norms(torch.tensor([[4.0, 0.0], [0.0, 9.0]]))
        tensor([2., 3.], dtype=torch.float64)
    """
    return gramian.double().diagonal().clamp(min=0).sqrt()


def unit(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines between the gradients, ``[K, K]``, and their lengths, ``[K]``; a gradient of 0 has cosine 0 with all.

    Example:
        >>> unit(torch.tensor([[4.0, 3.0], [3.0, 9.0]]))[0]
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]], dtype=torch.float64)
    """
    length = norms(gramian)
    inverse = torch.where(length > 0, 1 / length, 0.0)
    return gramian.double() * inverse[:, None] * inverse, length
