"""PISR: how well the teacher's features can be predicted, position by position, from the student's."""

from typing import Literal

import torch
from torch import Tensor, nn

from .learned import Learned, Sizes
from .maps import Shape, need_maps
from .precision import full


class PISR(Learned):
    """Negative log-likelihood of the teacher's features where mean and spread are predicted from the student's.

    Two learned heads of two 1x1 convolutions each predict them for every element; `VID` has one spread a channel and
    learns it directly. What cannot be predicted counts less.

    Args:
        student: Shape of one sample, ``(C_s, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher, ``(C_t, H, W)``; None to learn it in `bind`.
        form: ``"laplace"`` or ``"normal"``.
        shared: The spread is averaged over ``"channels"``, ``"positions"`` or ``"both"`` of a sample; ``"none"``: each
            element has its own. (The authors' code averages what the spread is made of, where ours averages spreads.)
        unit: What both are divided by first, above 0. The constants below are for features of a net whose colours end
            at 1; of one that counts them to 255 this is 255. Otherwise the spread starts at 0 where features are
            large and negative, and gradients are thousands of times the task's.

    Raises:
        ValueError: A shape is not known, or an option is out of range.

    Reference:
        Lee, Lee, Kim & Ham 2020, "Learning with Privileged Information for Efficient Image Super-Resolution",
        arXiv:2007.07524, eq. 6 and 7, with the scaling of the spread in the authors' code (0.1 and 0.001) and without
        its constant, which has no gradient. It weighs this loss 1e-6 beside `l1` in [0, 1].

    Example:
        >>> loss = PISR(student=(3, 4, 4), teacher=(6, 4, 4))
        >>> loss(torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4)).shape
        torch.Size([2])
    """

    mean: nn.Sequential
    spread: nn.Sequential

    def __init__(
        self,
        *,
        student: Sizes | None = None,
        teacher: Sizes | None = None,
        form: Literal["laplace", "normal"] = "laplace",
        shared: Literal["none", "channels", "positions", "both"] = "none",
        unit: float = 1.0,
    ) -> None:
        super().__init__(student, teacher)
        if form not in ("laplace", "normal") or shared not in ("none", "channels", "positions", "both"):
            raise ValueError(
                "PISR: expected form='laplace' or 'normal' and shared='none', 'channels', 'positions' or 'both', found "
                f"{form!r} and {shared!r}."
            )
        if not unit > 0:
            raise ValueError(f"PISR: expected a unit above 0, found {unit}.")
        self.form, self.shared, self.unit = form, shared, unit
        self.settle()

    def build(self, student: Shape, teacher: Shape) -> None:
        """Make the two heads."""
        here, there = student[0], teacher[0]

        def head(last: nn.Module) -> list[nn.Module]:
            return [nn.Conv2d(here, there, 1), nn.PReLU(), nn.Conv2d(there, there, 1), last]

        self.mean = nn.Sequential(*head(nn.Identity()))
        self.spread = nn.Sequential(*head(nn.Softplus()))

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The loss.

        Args:
            student: Feature maps, ``[B, C_s, H, W]``.
            teacher: Feature maps, ``[B, C_t, H, W]``, on the same grid.

        Returns:
            ``[B]``, below 0 where features are predicted well; rules that take logarithms or ratios of losses cannot
            use it.
        """
        self.need_built()
        need_maps("PISR", student, teacher, grid=True)
        with torch.autocast(student.device.type, enabled=False):
            ours, theirs = full(student) / self.unit, full(teacher.detach()) / self.unit
            off, spread = self.mean(ours) - theirs, self._spread(ours)
            if self.form == "laplace":
                scale = 0.1 * spread + 1e-8
                likelihood = (2 * scale).log() + off.abs() / scale
            else:
                variance = 0.001 * spread + 1e-8
                likelihood = variance.log() / 2 + off.square() / (2 * variance)
            value: Tensor = likelihood.flatten(1).mean(dim=1)
            return value

    def _spread(self, x: Tensor) -> Tensor:
        dims = {"none": (), "channels": (1,), "positions": (2, 3), "both": (1, 2, 3)}[self.shared]
        spread: Tensor = self.spread(x)
        return spread.mean(dim=dims, keepdim=True).expand_as(spread) if dims else spread
