"""Bottleneck: three convolutions, narrow in the middle, to the teacher's width."""

from collections.abc import Sequence

from torch import Tensor, nn

from .shapes import known


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, each with batch normalisation and ReLU; the grid stays as it is.

    Put `Resize` before it where grids differ. It ends in a ReLU: right where the teacher is tapped behind one.

    Args:
        student: Shape of one sample, ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        reduction: The teacher's channels over those in the middle, at least 1.

    Reference:
        Chen, Mei, Zhang, Wang, Feng & Chen 2022, arXiv:2203.14001 (SimKD), the projector in front of the reused
        classifier of the teacher, with the reduction of its code. In a path it is a connector as any other, and
        stays behind; the scheme `reused_classifier` makes it a part of the student.

    Example:
        >>> import torch
        >>> Bottleneck(student=(16, 8, 8), teacher=(64, 8, 8))(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 64, 8, 8])
    """

    def __init__(
        self,
        *,
        student: Sequence[int] | None = None,
        teacher: Sequence[int] | None = None,
        reduction: int = 2,
    ) -> None:
        super().__init__()
        self.given = student, teacher
        self.reduction = reduction
        self.layers: nn.Sequential | None = None
        if student is not None and teacher is not None:
            self.bind(None, None, None)

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Build the layers, once, for these shapes of one sample.

        Raises:
            ValueError: A shape is unknown or not a map's, or the reduction leaves no channel.
        """
        if self.layers is not None:
            return
        student = known(self, "student", self.given[0], student)
        teacher = known(self, "teacher", self.given[1], teacher)
        if len(student) != 3 or len(teacher) != 3 or not 1 <= self.reduction <= teacher[0]:
            raise ValueError(
                "Bottleneck: expected maps (C, H, W) and a reduction between 1 and the teacher's channels; found "
                f"student {student}, teacher {teacher} and {self.reduction}. Use `Project` for vectors and tokens."
            )
        narrow, layers, here = teacher[0] // self.reduction, [], student[0]
        for there, size in ((narrow, 1), (narrow, 3), (teacher[0], 1)):
            convolution = nn.Conv2d(here, there, size, padding=size // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(there), nn.ReLU()]
            here = there
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> the same with the teacher's channels."""
        if self.layers is None:
            raise ValueError("Bottleneck: not bound. Give student= and teacher= shapes, or call bind() first.")
        y: Tensor = self.layers(x)
        return y
