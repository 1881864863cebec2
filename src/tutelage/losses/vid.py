"""Variational information: keep in the student what is needed to predict the teacher."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .learned import Learned, Sizes
from .maps import Shape, as_map, meet
from .precision import full


class VID(Learned):
    """Negative log-likelihood of the teacher's features under a Gaussian that is predicted from the student's.

    Three learned 1x1 convolutions predict the mean; each channel of the teacher has a learned variance, so channels
    that cannot be predicted count less.

    Args:
        student: Shape of one sample, ``(C, H, W)`` or ``(D,)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        init_variance: Every variance at the start, above `eps`.
        eps: The smallest variance.

    Raises:
        ValueError: A shape is not known, or an option is out of range.

    Reference:
        Ahn, Hu, Damianou, Lawrence & Dai 2019, arXiv:1904.05835, with a Gaussian of one variance a channel, without
        the constant log(2π)/2 and with the mean over elements where the paper sums, as in the published code.
        Vectors (the paper's logit layer) are taken as maps of one position.

    Example:
        >>> loss = VID(student=(3, 4, 4), teacher=(6, 4, 4))
        >>> loss(torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4)).shape
        torch.Size([2])
        >>> loss.variance.detach()
        tensor([5.0000, 5.0000, 5.0000, 5.0000, 5.0000, 5.0000])
    """

    regressor: nn.Sequential
    raw_variance: nn.Parameter

    def __init__(
        self, *, student: Sizes | None = None, teacher: Sizes | None = None, init_variance: float = 5.0,
        eps: float = 1e-5,
    ) -> None:  # fmt: skip
        super().__init__(student, teacher)
        if not 0 < eps < init_variance:
            raise ValueError(f"VID: expected 0 < eps < init_variance, found {eps} and {init_variance}.")
        self.init_variance, self.eps = init_variance, eps
        self.settle()

    def build(self, student: Shape, teacher: Shape) -> None:
        """Make the regressor and the variances."""
        here, there = student[0], teacher[0]
        self.regressor = nn.Sequential(
            nn.Conv2d(here, there, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(there, there, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(there, there, 1, bias=False),
        )
        self.raw_variance = nn.Parameter(torch.full((there,), math.log(math.expm1(self.init_variance - self.eps))))

    @property
    def variance(self) -> Tensor:
        """The variance of each channel, ``[C_t]``."""
        return F.softplus(self.raw_variance) + self.eps

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The loss.

        Args:
            student: Feature maps, ``[B, C_s, H, W]``, or vectors.
            teacher: Feature maps, ``[B, C_t, H', W']``; of each axis, the longer is averaged down to the shorter.

        Returns:
            ``[B]``, below 0 where variances are below 1; rules that take logarithms or ratios of losses cannot use it.
        """
        self.need_built()
        with torch.autocast(student.device.type, enabled=False):
            ours, theirs = meet(*(full(as_map("VID", x)) for x in (student, teacher.detach())))
            variance = self.variance[:, None, None]
            mean: Tensor = self.regressor(ours)
            likelihood = (mean - theirs).square() / variance + variance.log()
            return likelihood.flatten(1).mean(dim=1) / 2
