"""Tokens: from a transformer's tokens to a map, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .shapes import Shape, known, square


class Tokens(nn.Module):
    """Lays tokens out as a map, or reads a map as tokens, whichever the student needs. Nothing is learned.

    From tokens to a map, prefix tokens (class, registers) are dropped. From a map to tokens, the teacher's
    prefix tokens have no counterpart: the mean over the grid stands in. Grid and prefix are read off the two
    shapes: the map's own grid where it leaves the fewest tokens over, else the largest square.

    Args:
        student: Shape of one sample, ``(T, D)`` or ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        grid: Height and width of the tokens' grid where it is not square; all tokens before it are prefix.

    Example:
        >>> import torch
        >>> Tokens(student=(197, 192), teacher=(768, 14, 14))(torch.ones(2, 197, 192)).shape
        torch.Size([2, 192, 14, 14])
        >>> Tokens(student=(64, 8, 8), teacher=(65, 192))(torch.ones(2, 64, 8, 8)).shape
        torch.Size([2, 65, 64])
    """

    def __init__(
        self,
        *,
        student: Sequence[int] | None = None,
        teacher: Sequence[int] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.given = student, teacher
        self.wanted = None if grid is None else (int(grid[0]), int(grid[1]))
        self.grid: tuple[int, int] | None = None
        self.prefix = 0
        if student is not None and teacher is not None:
            self.bind(None, None, None)

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Find grid and prefix from these shapes of one sample.

        Raises:
            ValueError: A shape is unknown or does not fit.
        """
        student = known(self, "student", self.given[0], student)
        teacher = known(self, "teacher", self.given[1], teacher)
        if len(student) == 2:
            self.grid, self.prefix = self._layout(student[0], teacher[1:] if len(teacher) == 3 else None)
        elif len(student) == 3 and len(teacher) == 2:
            self.grid, self.prefix = self._layout(teacher[0], student[1:])
            if self.grid != student[1:]:
                raise ValueError(
                    f"Tokens: the student's map {student} does not fill the teacher's {teacher[0]} tokens, a "
                    f"grid {self.grid} behind {self.prefix} others. Put `Resize` before."
                )
        else:
            raise ValueError(
                f"Tokens: expected tokens (T, D), or a map (C, H, W) for a teacher with tokens; found "
                f"student {student} and teacher {teacher}."
            )

    def _layout(self, tokens: int, other: Shape | None) -> tuple[tuple[int, int], int]:
        """The grid that many tokens form, and how many come before it: the fewer, the likelier."""
        if self.wanted is not None:
            left = tokens - self.wanted[0] * self.wanted[1]
            if left < 0:
                raise ValueError(f"Tokens: expected tokens to fill the grid {self.wanted}, found {tokens}.")
            return self.wanted, left
        side, left = square(tokens)
        if other is not None and 0 <= tokens - other[0] * other[1] <= left:
            return (other[0], other[1]), tokens - other[0] * other[1]
        return (side, side), left

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, D] -> [B, D, H, W]``, or ``[B, C, H, W] -> [B, T, C]``."""
        if self.grid is None:
            raise ValueError("Tokens: not bound. Give student= and teacher= shapes, or call bind() first.")
        if x.dim() == 3:
            return x[:, self.prefix :].transpose(1, 2).reshape(len(x), -1, *self.grid)
        tokens = x.flatten(2).transpose(1, 2)
        return torch.cat([tokens.mean(dim=1, keepdim=True).expand(-1, self.prefix, -1), tokens], dim=1)
