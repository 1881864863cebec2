"""Masked generative distillation: from a part of the student's features, make all of the teacher's."""

from typing import Literal

import torch
from torch import Tensor, nn

from .learned import Learned, Sizes
from .maps import Shape, need_maps
from .precision import full


class MGD(Learned):
    """Squared distance between the teacher's maps and what a small network generates from the student's masked ones.

    Args:
        student: Shape of one sample, ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher, on the same grid; None to learn it in `bind`.
        ratio: Share of places (or channels) that are hidden, in [0, 1).
        hide: ``"places"``: all channels of a place together; ``"channels"``: whole channels.

    Raises:
        ValueError: A shape is not known, the grids differ, or an option is out of range.

    Reference:
        Yang, Li, Shao, Shi, Yuan & Yuan 2022, arXiv:2205.01529, summed over a sample's elements as there, so published
        weights (7e-5 for classification, 2e-5 for dense tasks) can be used. The paper hides places; the
        authors' ratios are 0.65 for one-stage detectors, 0.45 for two-stage ones and 0.75 for segmentation, and
        their code for classification hides channels, with 0.15.

    Example:
        >>> loss = MGD(student=(4, 8, 8), teacher=(6, 8, 8))
        >>> loss(torch.randn(2, 4, 8, 8), torch.randn(2, 6, 8, 8)).shape
        torch.Size([2])
    """

    align: nn.Module
    generator: nn.Sequential

    def __init__(
        self,
        *,
        student: Sizes | None = None,
        teacher: Sizes | None = None,
        ratio: float = 0.15,
        hide: Literal["places", "channels"] = "places",
    ) -> None:
        super().__init__(student, teacher)
        if not 0 <= ratio < 1 or hide not in ("places", "channels"):
            raise ValueError(
                f"MGD: expected ratio in [0, 1) and hide='places' or 'channels', found {ratio} and {hide!r}."
            )
        self.ratio, self.hide = ratio, hide
        self.settle()

    def build(self, student: Shape, teacher: Shape) -> None:
        """Make the generator, and a 1x1 convolution in front where the widths differ."""
        if len(student) != 3 or student[1:] != teacher[1:]:
            raise ValueError(
                f"MGD: expected maps (C, H, W) on one grid, found student {student} and teacher {teacher}. Put "
                "`connectors.Resize` (or `Tokens`) in this path."
            )
        here, there = student[0], teacher[0]
        self.align = nn.Identity() if here == there else nn.Conv2d(here, there, 1)
        self.generator = nn.Sequential(
            nn.Conv2d(there, there, 3, padding=1), nn.ReLU(), nn.Conv2d(there, there, 3, padding=1)
        )

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The loss with a freshly drawn mask, in training and out of it.

        Args:
            student: Feature maps, ``[B, C_s, H, W]``.
            teacher: Feature maps, ``[B, C_t, H, W]``.

        Returns:
            ``[B]``, at least 0: a sum over elements, thousands to millions.
        """
        self.need_built()
        need_maps("MGD", student, teacher, grid=True)
        with torch.autocast(student.device.type, enabled=False):
            aligned: Tensor = self.align(full(student))
            generated: Tensor = self.generator(aligned * self.draw(aligned))
            return (generated - full(teacher.detach())).square().flatten(1).sum(dim=1)

    def draw(self, x: Tensor) -> Tensor:
        """A mask for maps ``[B, C, H, W]``: 1 with probability ``1 - ratio``, else 0."""
        size = (len(x), 1, *x.shape[2:]) if self.hide == "places" else (*x.shape[:2], 1, 1)
        return (torch.rand(size, device=x.device) >= self.ratio).to(x.dtype)
