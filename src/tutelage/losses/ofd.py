"""Overhauled feature distillation: match what the teacher passes on, and not how far it is switched off."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .learned import Learned, Sizes, norm
from .maps import Shape, need_maps
from .precision import full


class OFD(Learned):
    """Squared distance to the teacher's maps before their ReLU, cut off below at a margin, where it matters.

    The target is ``max(teacher, margin)``, with a margin below 0 for each channel: the mean of the channel's negative
    values. A student that is below a target that is itself below 0 is left alone. A learned 1x1
    convolution with normalisation stands between.

    Args:
        student: Shape of one sample, ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        scale: Weight of the batch normalisation in front of the teacher's ReLU, ``[C_t]``: with `shift`, margins are
            the expectations under a normal distribution. Without them, of the negative values in each batch.
        shift: Bias of that normalisation, ``[C_t]``.
        kernel_size: Of the convolution, odd.

    Raises:
        ValueError: A shape is not known, scale and shift do not fit the teacher, or the kernel is even.

    Reference:
        Heo, Kim, Yun, Park, Kwak & Choi 2019, arXiv:1904.01866, for one layer: margin ReLU and partial L2
        distance, summed over a sample's elements as in the paper. As in the authors' code, a channel that is negative
        with a probability of at most 0.001 has margin -3·scale; layers there weigh 1, ½, ¼ … from the last to the
        first, times 1/1000: give these as weights. Unlike there, the teacher is in eval mode, and the
        student's normalisation always takes the batch's statistics.

    Example:
        >>> loss = OFD(student=(4, 8, 8), teacher=(6, 8, 8), scale=torch.ones(6), shift=torch.zeros(6))
        >>> loss.margin
        tensor([-0.7979, -0.7979, -0.7979, -0.7979, -0.7979, -0.7979])
        >>> loss(torch.randn(2, 4, 8, 8), torch.randn(2, 6, 8, 8)).shape
        torch.Size([2])
    """

    connector: nn.Sequential
    margin: Tensor | None

    def __init__(
        self,
        *,
        student: Sizes | None = None,
        teacher: Sizes | None = None,
        scale: Tensor | Sequence[float] | None = None,
        shift: Tensor | Sequence[float] | None = None,
        kernel_size: int = 1,
    ) -> None:
        super().__init__(student, teacher)
        if kernel_size % 2 != 1 or (scale is None) != (shift is None):
            raise ValueError(
                f"OFD: expected an odd kernel_size, and scale and shift together or neither; found {kernel_size}, "
                f"{'a' if scale is not None else 'no'} scale and {'a' if shift is not None else 'no'} shift."
            )
        self.kernel_size = kernel_size
        self.register_buffer(
            "margin", None if scale is None or shift is None else margin(*map(torch.as_tensor, (scale, shift)))
        )
        self.settle()

    def build(self, student: Shape, teacher: Shape) -> None:
        """Make the connector."""
        known = teacher[0] if self.margin is None else len(self.margin)
        if len(student) != 3 or len(teacher) != 3 or teacher[0] != known:
            raise ValueError(
                f"OFD: expected maps (C, H, W), the teacher's with as many channels as scale and shift ({known}); "
                f"found student {student} and teacher {teacher}."
            )
        convolution = nn.Conv2d(student[0], teacher[0], self.kernel_size, padding=self.kernel_size // 2, bias=False)
        nn.init.normal_(convolution.weight, std=math.sqrt(2 / (self.kernel_size**2 * teacher[0])))
        self.connector = nn.Sequential(convolution, norm(teacher[0]))

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The loss.

        Args:
            student: Maps before their ReLU, ``[B, C_s, H, W]``.
            teacher: Maps before their ReLU, ``[B, C_t, H', W']``; another grid is averaged to the student's.

        Returns:
            ``[B]``, at least 0: a sum over elements.
        """
        self.need_built()
        need_maps("OFD", student, teacher)
        with torch.autocast(student.device.type, enabled=False):
            adapted: Tensor = self.connector(full(student))
            said = full(teacher.detach())
            if said.shape[2:] != student.shape[2:]:
                said = F.adaptive_avg_pool2d(said, (student.shape[2], student.shape[3]))
            lowest = _mean_below_zero(said) if self.margin is None else self.margin.to(said.dtype)
            target = torch.maximum(said, lowest[:, None, None])
            counts = (adapted > target) | (said > 0)
            return torch.where(counts, adapted - target, 0.0).square().flatten(1).sum(dim=1)


def margin(scale: Tensor, shift: Tensor) -> Tensor:
    """Expectation of a normal variable with mean `shift` and deviation ``|scale|`` where it is negative, ``[C]``.

    Example:
        >>> margin(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.0, 9.0, -2.0]))
        tensor([-0.7979, -3.0000, -2.0000])
    """
    mean, deviation = shift.detach().double(), scale.detach().double().abs()
    ratio = mean / deviation
    negative = torch.erfc(ratio / math.sqrt(2)) / 2
    density = (-(ratio**2) / 2).exp() / math.sqrt(2 * math.pi)
    usual = mean - deviation * density / negative
    found = torch.where(negative > 0.001, usual, -3 * deviation)
    return torch.where(deviation == 0, mean.clamp(max=0), found).to(full(scale).dtype)


def _mean_below_zero(said: Tensor) -> Tensor:
    """The mean of each channel's negative values in the batch, 0 where there are none, ``[C]``."""
    below = said < 0
    return torch.where(below, said, 0.0).sum(dim=(0, 2, 3)) / below.sum(dim=(0, 2, 3)).clamp(min=1)
