"""Dynamic prior knowledge: show the student a part of the teacher's features, more of them the farther it is off."""

import torch
from torch import Tensor, nn

from .learned import Learned, Sizes
from .maps import Shape, need_maps
from .precision import full


class DPK(Learned):
    """Squared distance between the teacher's maps and what a small network makes of both networks' places, mixed.

    At some places the teacher's features stand, at the others the student's, brought to the teacher's width. The share
    of the teacher's is one minus the linear CKA of the two batches: a student far from a strong teacher is given
    more, and less as it comes closer.

    Args:
        student: Shape of one sample, ``(C, H, W)``; None to learn it in `bind`.
        teacher: Shape of one sample of the teacher, on the same grid; None to learn it in `bind`.
        most: The largest share of places that are the teacher's, in [0, 1).

    Raises:
        ValueError: A shape is not known, the grids differ, or `most` is out of range.

    Reference:
        After Zong et al. 2023, "Better Teacher Better Student: Dynamic Prior Knowledge for Knowledge Distillation",
        arXiv:2206.06067, of which no usable code was found. Deviations: two 3x3 convolutions stand for the transformer
        encoder and decoder; the similarity is that of the batch, without a running average; `most` is ours.

    Example:
        >>> loss = DPK(student=(4, 8, 8), teacher=(6, 8, 8))
        >>> loss(torch.randn(3, 4, 8, 8), torch.randn(3, 6, 8, 8)).shape
        torch.Size([3])
    """

    align: nn.Module
    generator: nn.Sequential

    def __init__(self, *, student: Sizes | None = None, teacher: Sizes | None = None, most: float = 0.9) -> None:
        super().__init__(student, teacher)
        if not 0 <= most < 1:
            raise ValueError(f"DPK: expected most in [0, 1), found {most}.")
        self.most = most
        self.settle()

    def build(self, student: Shape, teacher: Shape) -> None:
        """Make the alignment and the generator."""
        if len(student) != 3 or len(teacher) != 3 or student[1:] != teacher[1:]:
            raise ValueError(
                f"DPK: expected maps (C, H, W) on one grid, found student {student} and teacher {teacher}. Put "
                "`connectors.Resize` (or `Tokens`) in this path."
            )
        here, there = student[0], teacher[0]
        self.align = nn.Conv2d(here, there, 1)
        self.generator = nn.Sequential(
            nn.Conv2d(there, there, 3, padding=1), nn.ReLU(), nn.Conv2d(there, there, 3, padding=1)
        )

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The loss with a freshly drawn mixture.

        Args:
            student: Feature maps, ``[B, C_s, H, W]``.
            teacher: Feature maps, ``[B, C_t, H, W]``.

        Returns:
            ``[B]``, at least 0: the mean over all elements, those at the teacher's own places included.
        """
        self.need_built()
        need_maps("DPK", student, teacher, grid=True)
        with torch.autocast(student.device.type, enabled=False):
            ours, theirs = full(student), full(teacher.detach())
            share = (1 - cka(ours.detach(), theirs)).clamp(0, self.most)
            prior = self.draw(theirs, share)
            generated: Tensor = self.generator(prior * theirs + (1 - prior) * self.align(ours))
            return (generated - theirs).square().flatten(1).mean(dim=1)

    def draw(self, x: Tensor, share: Tensor) -> Tensor:
        """Places of maps ``[B, C, H, W]`` that are the teacher's: ``[B, 1, H, W]``, 1 with probability `share`."""
        return (torch.rand(len(x), 1, *x.shape[2:], device=x.device) < share).to(x.dtype)


def cka(a: Tensor, b: Tensor) -> Tensor:
    """Linear centred kernel alignment of two batches, in [0, 1]; 0 where one of them does not vary.

    Reference:
        Kornblith, Norouzi, Lee & Hinton 2019, arXiv:1905.00414, sec. 3.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> cka(x, 5 * x + 1), cka(x, torch.ones(3, 2))
        (tensor(1.), tensor(0.))
    """
    kernels = []
    for x in (a, b):
        flat = x.flatten(1)
        flat = flat - flat.mean(dim=0)
        kernel = flat @ flat.T
        size = torch.linalg.vector_norm(kernel)
        kernels.append(kernel / torch.where(size > 0, size, 1.0))
    return (kernels[0] * kernels[1]).sum().clamp(0, 1)
