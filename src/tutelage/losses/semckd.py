"""Semantic calibration: every layer of the student learns from all of the teacher's, by learned attention."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .learned import Learned, Sizes, norm
from .maps import Shape, as_map, meet
from .precision import full


class SemCKD(Learned):
    """For each layer of the student, the distances to all layers of the teacher, weighted by learned attention.

    How alike a sample is to the others of its batch, by the features of a layer, makes the layer's query (student) or
    key (teacher); the softmax of their products weighs the teacher's layers, for each sample. A learned
    projection leads from each layer of the student to each of the teacher's. The numbers of taps may differ.

    **The attention knows the batch by position:** its width is the batch size, and a sample's value
    depends on the order of the batch.

    Args:
        student: Shapes of one sample at the student's taps, ``(C, H, W)`` or ``(D,)``; None to learn them in `bind`.
        teacher: Shapes of one sample at the teacher's taps; None to learn them in `bind`.
        batch_size: Samples in a training batch, at least 4; a smaller batch is filled up with zeros.

    Raises:
        ValueError: Shapes or the batch size are not known, or a batch is larger.

    Reference:
        Chen, Mei, Zhang and others 2021, arXiv:2012.03236, with the networks of the published code (weights
        there: 400 for CIFAR, 50 for ImageNet). Unlike there, smaller batches are possible, layers that are
        never used are left out, a query of length 0 stays 0, and normalisation always takes the batch's statistics.

    Example:
        >>> loss = SemCKD(student=((4, 8, 8), (6, 4, 4)), teacher=((8, 8, 8),), batch_size=4)
        >>> loss([torch.randn(4, 4, 8, 8), torch.randn(4, 6, 4, 4)], [torch.randn(4, 8, 8, 8)]).shape
        torch.Size([4])
    """

    def __init__(
        self, *, student: Sizes | None = None, teacher: Sizes | None = None, batch_size: int | None = None
    ) -> None:
        super().__init__(student, teacher)
        if batch_size is None or batch_size < 4:
            raise ValueError(
                f"SemCKD: expected batch_size, the samples in a training batch, at least 4; found {batch_size}. The "
                "attention is built for it: give the loader's, as batch_size=."
            )
        self.batch_size = batch_size
        self.queries, self.keys, self.projections = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.settle()

    def build(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        """Make queries, keys, and a projection for each pair of layers."""
        for sizes in (student, teacher):
            if not sizes or isinstance(sizes[0], int) or any(len(size) not in (1, 3) for size in sizes):
                raise ValueError(
                    f"SemCKD: expected maps (C, H, W) or vectors (D,) at several taps, found student {student} and "
                    f"teacher {teacher}. Give lists of taps: student=['layer1', 'layer2']."
                )
        self.queries.extend(_embedding(self.batch_size) for _ in student)
        self.keys.extend(_embedding(self.batch_size) for _ in teacher)
        for ours in student:
            self.projections.append(nn.ModuleList(_projection(ours[0], theirs[0]) for theirs in teacher))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], /) -> Tensor:
        """The loss.

        Args:
            student: Maps ``[B, C, H, W]`` or vectors ``[B, D]``, one for each layer.
            teacher: The same of the teacher's layers; of two grids, the longer axis is averaged down.

        Returns:
            ``[B]``, at least 0: the mean over the student's layers.
        """
        self.need_built()
        if len(student[0]) > self.batch_size:
            raise ValueError(
                f"SemCKD: expected at most batch_size={self.batch_size} samples, found {len(student[0])}. Give the "
                "loader's batch size to the loss."
            )
        ours, theirs = ([full(as_map("SemCKD", x)) for x in side] for side in (student, teacher))
        with torch.autocast(ours[0].device.type, enabled=False):
            return self._attended(ours, [x.detach() for x in theirs])

    def _attended(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        queries = torch.stack([self._embed(*each) for each in zip(self.queries, ours, strict=True)], dim=1)
        keys = torch.stack([self._embed(*each) for each in zip(self.keys, theirs, strict=True)], dim=1)
        attention = (queries @ keys.mT).softmax(dim=2)
        value = attention.new_zeros(len(attention))
        for i, (projections, x) in enumerate(zip(self.projections, ours, strict=True)):
            assert isinstance(projections, nn.ModuleList)
            for j, (projection, target) in enumerate(zip(projections, theirs, strict=True)):
                near, far = meet(x, target)
                value = value + attention[:, i, j] * (projection(near) - far).square().flatten(1).mean(dim=1)
        return value / len(ours)

    def _embed(self, embedding: nn.Module, x: Tensor) -> Tensor:
        """Unit vectors ``[B, D]`` from how alike the samples of the batch are."""
        alike = x.flatten(1) @ x.flatten(1).T
        embedded: Tensor = F.normalize(embedding(F.pad(alike, (0, self.batch_size - len(x)))), dim=1)
        return embedded


def _embedding(batch_size: int) -> nn.Sequential:
    width = batch_size // 4
    return nn.Sequential(nn.Linear(batch_size, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


def _projection(here: int, there: int) -> nn.Sequential:
    wide = 2 * there
    return nn.Sequential(
        nn.Conv2d(here, wide, 1, bias=False),
        norm(wide),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 3, padding=1, bias=False),
        norm(wide),
        nn.ReLU(),
        nn.Conv2d(wide, there, 1, bias=False),
    )
