"""Project: give the student's features the teacher's width."""

from collections.abc import Sequence

from torch import Tensor, nn

from .shapes import known, width


class Project(nn.Module):
    """A learned linear map of the width: 1x1 convolution for maps, linear layer for tokens and vectors.

    Grid and number of tokens stay as they are (`Resize` changes them).

    Args:
        student: Shape of one sample, ``(D,)``, ``(T, D)`` or ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        norm: Put batch normalisation behind.

    Example:
        >>> import torch
        >>> Project(student=(16, 8, 8), teacher=(64, 8, 8))(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 64, 8, 8])
    """

    def __init__(
        self,
        *,
        student: Sequence[int] | None = None,
        teacher: Sequence[int] | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.given = student, teacher
        self.with_norm = norm
        self.linear: nn.Module | None = None
        self.norm: nn.Module = nn.Identity()
        if student is not None and teacher is not None:
            self.bind(None, None, None)

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Build the layers, once, for these shapes of one sample."""
        if self.linear is not None:
            return
        from_shape = known(self, "student", self.given[0], student)
        to = width(known(self, "teacher", self.given[1], teacher))
        is_map, bias = len(from_shape) == 3, not self.with_norm  # a bias before the norm would cancel
        self.linear = nn.Conv2d(from_shape[0], to, 1, bias=bias) if is_map else nn.Linear(from_shape[-1], to, bias)
        if self.with_norm:
            self.norm = nn.BatchNorm2d(to) if is_map else nn.BatchNorm1d(to)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, D]``, ``[B, T, D]`` or ``[B, C, H, W]`` -> the same with the teacher's width."""
        if self.linear is None:
            raise ValueError("Project: not bound. Give student= and teacher= shapes, or call bind() first.")
        y: Tensor = self.linear(x)
        # Every token is a sample of the statistics.
        normed: Tensor = self.norm(y.flatten(0, 1) if y.dim() == 3 else y)
        return normed.view_as(y)
