"""Correlation congruence as widely used code has it: learned embeddings that err apart."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .learned import Learned, Sizes
from .precision import full
from .shapes import same_shape


class CC(Learned):
    """How much the errors of any two samples' embeddings overlap.

    Learned linear maps embed both networks' features; the error of a sample is the absolute difference of its two
    embeddings, and the loss is the inner product of two samples' errors. Both maps learn, so that nothing keeps them
    from agreeing on a constant: `correlation` is the loss of the paper, without that way out.

    Args:
        student: Shape of one sample, usually ``(D,)``; others are flattened. None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        feat_dim: Width of the embeddings; None compares the features themselves, which then need one shape.
        pairs: ``"all"`` pairs of the batch, or ``"consecutive"`` ones alone, as in the code.

    Raises:
        ValueError: A size is not known, or an option is out of range.

    Reference:
        The loss that RepDistiller gives for Peng et al. 2019, arXiv:1904.01802, there with weight 0.02. Deviation:
        it takes consecutive samples, so that its value changes with the order of a batch and is not a number for
        a batch of one; the mean over all pairs is its mean over all orders, and a single sample gives 0.

    Example:
        >>> loss = CC(student=(4,), teacher=(6,), feat_dim=8)
        >>> loss(torch.randn(3, 4), torch.randn(3, 6)).shape
        torch.Size([3])
    """

    student_head: nn.Linear
    teacher_head: nn.Linear

    def __init__(
        self,
        *,
        student: Sizes | None = None,
        teacher: Sizes | None = None,
        feat_dim: int | None = 128,
        pairs: Literal["all", "consecutive"] = "all",
    ) -> None:
        super().__init__(student, teacher)
        if (feat_dim is not None and feat_dim < 1) or pairs not in ("all", "consecutive"):
            raise ValueError(
                f"CC: expected feat_dim >= 1 and pairs='all' or 'consecutive', found {feat_dim} and {pairs!r}."
            )
        self.feat_dim, self.pairs = feat_dim, pairs
        self.built = feat_dim is None
        self.settle()

    def build(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
        """Make the two heads."""
        if self.feat_dim is not None:
            self.student_head = nn.Linear(math.prod(student), self.feat_dim)
            self.teacher_head = nn.Linear(math.prod(teacher), self.feat_dim)

    def forward(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """The overlap of each sample's error with those of the others.

        Args:
            student: ``[B, ...]``.
            teacher: ``[B, ...]``.

        Returns:
            ``[B]``, at least 0: the mean over all other samples, or the overlap with the next one, where the last
            has 0 and the batch mean is the mean over the pairs. 0 for a batch of one.
        """
        self.need_built()
        student, teacher = full(student).flatten(1), full(teacher.detach()).flatten(1)
        with torch.autocast(student.device.type, enabled=False):
            if self.feat_dim is not None:
                student, teacher = _embed(self.student_head, student), _embed(self.teacher_head, teacher)
        same_shape("CC", student, teacher, "Without embeddings (feat_dim=None) both need one shape.")
        error = (student - teacher).abs()
        others = max(len(error) - 1, 1)
        if self.pairs == "all":
            return (error * (error.sum(dim=0) - error)).sum(dim=1) / others
        following = torch.cat([error[1:], torch.zeros_like(error[:1])])
        return (error * following).sum(dim=1) * len(error) / others


def _embed(head: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, head.weight.to(x.dtype), head.bias.to(x.dtype))
