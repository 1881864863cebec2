"""Regressor: the learned layer between a guided layer of the student and a hint of the teacher."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from .shapes import Shape, known


class Regressor(nn.Module):
    """Convolution, batch normalisation and ReLU that give the student's map the teacher's width and grid.

    The convolution follows from the two grids, the first rule that fits both axes:

    - the student's is twice the teacher's: 3x3, stride 2;
    - the teacher's is twice the student's: transposed 4x4, stride 2;
    - the student's is as large or larger: no padding, as large a kernel as it takes (1x1 for equal grids);
    - otherwise: bilinear interpolation to the teacher's grid, then 3x3.

    For a teacher's vector it is a linear layer on the flattened feature.

    Args:
        student: Shape of one sample, ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher, ``(C, H, W)`` or ``(D,)``; None to learn it in `bind`.
        norm: Batch normalisation behind the convolution.
        relu: ReLU at the end: right where the teacher is tapped behind one, wrong where it can be negative.

    Reference:
        Romero et al. 2015, arXiv:1412.6550, sec. 2.2 has the unpadded convolution; the other cases and the
        normalisation are those of widely used code, which has no last case for all sizes.

    Example:
        >>> import torch
        >>> Regressor(student=(16, 8, 8), teacher=(64, 4, 4))(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self,
        *,
        student: Sequence[int] | None = None,
        teacher: Sequence[int] | None = None,
        norm: bool = True,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.given = student, teacher
        self.with_norm, self.with_relu = norm, relu
        self.layers: nn.Sequential | None = None
        if student is not None and teacher is not None:
            self.bind(None, None, None)

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Build the layers, once, for these shapes of one sample.

        Raises:
            ValueError: A shape is unknown, or no regressor goes between the two.
        """
        if self.layers is not None:
            return
        student = known(self, "student", self.given[0], student)
        teacher = known(self, "teacher", self.given[1], teacher)
        if len(teacher) == 1:
            layers: list[nn.Module] = [nn.Flatten(), nn.Linear(math.prod(student), teacher[0])]
            norm: nn.Module = nn.BatchNorm1d(teacher[0])
        elif len(student) == len(teacher) == 3:
            layers, norm = _convolution(student, teacher), nn.BatchNorm2d(teacher[0])
        else:
            raise ValueError(
                f"Regressor: expected maps (C, H, W), or a vector (D,) of the teacher; found student "
                f"{student} and teacher {teacher}. Put `Tokens` before, or use `Project`."
            )
        self.layers = nn.Sequential(*layers, *[norm] * self.with_norm, *[nn.ReLU()] * self.with_relu)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w] -> [B, C', H, W]``, or anything to ``[B, D]``."""
        if self.layers is None:
            raise ValueError("Regressor: not bound. Give student= and teacher= shapes, or call bind() first.")
        y: Tensor = self.layers(x)
        return y


def _convolution(student: Shape, teacher: Shape) -> list[nn.Module]:
    (wide, h, w), (to, H, W) = student, teacher
    if (h, w) == (2 * H, 2 * W):
        return [nn.Conv2d(wide, to, 3, stride=2, padding=1)]
    if (2 * h, 2 * w) == (H, W):
        return [nn.ConvTranspose2d(wide, to, 4, stride=2, padding=1)]
    if h >= H and w >= W:
        return [nn.Conv2d(wide, to, (1 + h - H, 1 + w - W))]
    return [nn.Upsample((H, W), mode="bilinear"), nn.Conv2d(wide, to, 3, padding=1)]
