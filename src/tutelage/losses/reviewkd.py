"""Knowledge review: each level of the student, with all deeper ones fused into it, learns one level of the teacher."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hierarchical_context import hierarchical_context
from .learned import Learned, Sizes, norm
from .maps import Shape, as_map
from .precision import full


class ReviewKD(Learned):
    """Fuses the student's levels from the deepest to the shallowest and compares each with the teacher's level.

    Two learned attention maps weigh, place by place, a level against what comes from below it; the
    comparison is `hierarchical_context`. It takes lists of taps, from shallow to deep; the last
    may be the vector before the classifier.

    Args:
        student: Shapes of one sample at the student's taps, ``(C, H, W)`` or ``(D,)``; None to learn them in `bind`.
        teacher: Shapes of one sample at as many taps of the teacher; None to learn them in `bind`.
        most_channels: Levels are fused with as many channels as the deepest has, but no more than this.

    Raises:
        ValueError: Shapes are not known, or do not pair.

    Reference:
        Chen, Liu, Zhao & Jia 2021, "Distilling Knowledge via Knowledge Review", arXiv:2104.09044: attention based
        fusion and hierarchical context loss, as in its code, which taps the teacher before the ReLU of each stage and
        raises the weight over 20 epochs (`weighting.Warmup`). Unlike in its code, the teacher is in
        eval mode, and normalisation always takes the batch's statistics: a vector among the taps needs two samples.

    Example:
        >>> shapes = (4, 8, 8), (6, 4, 4), (6,)
        >>> loss = ReviewKD(student=shapes, teacher=((8, 8, 8), (9, 4, 4), (9,)))
        >>> student = [torch.randn(2, *shape) for shape in shapes]
        >>> loss(student, [torch.randn(2, 8, 8, 8), torch.randn(2, 9, 4, 4), torch.randn(2, 9)]).shape
        torch.Size([2])
    """

    def __init__(self, *, student: Sizes | None = None, teacher: Sizes | None = None, most_channels: int = 512) -> None:
        super().__init__(student, teacher)
        self.most_channels = most_channels
        self.fusions = nn.ModuleList()
        self.settle()

    def build(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        """Make one fusion for each level."""
        lists = all(sizes and not isinstance(sizes[0], int) for sizes in (student, teacher))
        if not lists or len(student) != len(teacher) or any(len(size) not in (1, 3) for size in (*student, *teacher)):
            raise ValueError(
                f"ReviewKD: expected maps (C, H, W) or vectors (D,) at several taps, as many of each network; found "
                f"student {student} and teacher {teacher}. Give lists of taps: student=['layer1', 'layer2']."
            )
        width = min(self.most_channels, student[-1][0])
        for level, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
            grid = (theirs[1], theirs[2]) if len(theirs) == 3 else (1, 1)
            self.fusions.append(_Fusion(ours[0], width, theirs[0], grid, deepest=level == len(student) - 1))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], /) -> Tensor:
        """The loss.

        Args:
            student: Maps ``[B, C, H, W]`` or vectors ``[B, D]`` from shallow to deep.
            teacher: As many.

        Returns:
            ``[B]``, at least 0, summed over the levels.
        """
        self.need_built()
        with torch.autocast(student[0].device.type, enabled=False):
            return hierarchical_context(self.fuse(student), [as_map("ReviewKD", x) for x in teacher])

    def fuse(self, student: Sequence[Tensor]) -> list[Tensor]:
        """The student's levels as they are compared, from shallow to deep, in the shapes of the teacher's."""
        fused: list[Tensor] = []
        below: Tensor | None = None
        for fusion, x in reversed(list(zip(self.fusions, student, strict=True))):
            out, below = fusion(full(as_map("ReviewKD", x)), below)
            fused.insert(0, out)
        return fused


class _Fusion(nn.Module):
    """One level: reduced, fused with what comes from the deeper ones, and expanded to the teacher's width."""

    def __init__(self, channels: int, width: int, out: int, grid: tuple[int, int], *, deepest: bool) -> None:
        super().__init__()
        self.grid = grid
        self.reduce = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), norm(width))
        self.expand = nn.Sequential(nn.Conv2d(width, out, 3, padding=1, bias=False), norm(out))
        self.attention = None if deepest else nn.Conv2d(2 * width, 2, 1)
        for part in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(part[0].weight, a=1)  # type: ignore[arg-type]

    def forward(self, x: Tensor, below: Tensor | None) -> tuple[Tensor, Tensor]:
        """The level for the teacher, and what is handed on."""
        x = self.reduce(x)
        if self.attention is not None and below is not None:
            below = F.interpolate(below, (x.shape[2], x.shape[3]))
            share = self.attention(torch.cat([x, below], dim=1)).sigmoid()
            x = x * share[:, :1] + below * share[:, 1:]
        if x.shape[2:] != self.grid:
            x = F.interpolate(x, self.grid)
        return self.expand(x), x
