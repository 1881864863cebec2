"""Resize: give the student's grid the teacher's size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .shapes import known, square


class Resize(nn.Module):
    """Averages a grid down to the teacher's, or interpolates it up, axis by axis. Nothing is learned.

    Tokens are resized as the square grid they form; prefix tokens (class, registers) are passed on,
    as many as the teacher has.

    Args:
        teacher: Shape of one sample of the teacher, ``(C, H, W)`` or ``(T, D)``; None to learn it in `bind`.

    Example:
        >>> import torch
        >>> Resize(teacher=(64, 4, 4))(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 16, 4, 4])
        >>> Resize(teacher=(197, 768))(torch.ones(2, 65, 32)).shape
        torch.Size([2, 197, 32])
    """

    def __init__(self, *, teacher: Sequence[int] | None = None) -> None:
        super().__init__()
        self.given = teacher
        self.grid: tuple[int, int] | None = None
        self.prefix = 0
        if teacher is not None:
            self.bind(None, None, None)

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Take over the grid of this shape of one sample."""
        shape = known(self, "teacher", self.given, teacher)
        if len(shape) == 3:
            self.grid = shape[1], shape[2]
        elif len(shape) == 2:
            side, self.prefix = square(shape[0])
            self.grid = side, side
        else:
            raise ValueError(f"Resize: expected a teacher with a grid, (C, H, W) or (T, D), found {shape}. Use `Pool`.")

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w] -> [B, C, H, W]``, or ``[B, t, D] -> [B, T, D]``."""
        if x.dim() == 4:
            return self._resized(x)
        if x.dim() != 3:
            raise ValueError(f"Resize: expected maps [B, C, H, W] or tokens [B, T, D], found {list(x.shape)}.")
        side, prefix = square(x.shape[1])
        if prefix < self.prefix:
            raise ValueError(
                f"Resize: the student's {x.shape[1]} tokens are a grid and {prefix} prefix tokens, the "
                f"teacher has {self.prefix} of these. Tap both behind the same tokens, or use `Pool`."
            )
        grid = x[:, prefix:].transpose(1, 2).reshape(len(x), -1, side, side)
        return torch.cat([x[:, : self.prefix], self._resized(grid).flatten(2).transpose(1, 2)], dim=1)

    def _resized(self, x: Tensor) -> Tensor:
        if self.grid is None:
            raise ValueError("Resize: not bound. Give teacher= its shape, or call bind() first.")
        (h, w), (H, W) = x.shape[2:], self.grid
        if h > H or w > W:
            x = F.adaptive_avg_pool2d(x, (min(h, H), min(w, W)))
        if h < H or w < W:
            x = F.interpolate(x, (H, W), mode="bilinear", align_corners=False)
        return x
