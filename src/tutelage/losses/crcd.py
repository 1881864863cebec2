"""Complementary relation contrast: know how a sample differs from others, as the other network sees it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .crd import CRD


class CRCD(CRD):
    """Noise-contrastive loss of relations: what leads from one sample of the batch to another, among what leads away.

    A relation is the direction from an *anchor*, another sample of the batch as the other network remembers it, to a
    sample. That from the anchor to the embedding is compared with those to the remembered rows: the sample's own is
    right, those of `negatives` others are wrong. Heads, memories and normalising constants are those of `CRD`.

    Directions are never formed: their cosines follow from inner products, so that a step takes ``B * B * negatives``
    numbers and not as many times `feat_dim`.

    Args:
        student: Shape of one sample, usually ``(D,)``; others are flattened. None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        samples: Size of the training set, one more than the largest index; None to learn it in `bind`.
        negatives: Other samples to compare with, at most ``samples - 1``.
        feat_dim: Width of the embeddings.
        temperature: What cosines are divided by, > 0.
        momentum: Share of the old memory that is kept, in [0, 1).

    Raises:
        ValueError: A size is not known, there is one sample alone, or an option is out of range.

    Reference:
        Zhu et al. 2021, "Complementary Relation Contrastive Distillation", arXiv:2103.16367, its relation of features.
        Left out is the relation of gradients, which needs both networks' classifiers and second derivatives.
        Deviations from the code of an author, which is said there to be incomplete: a sample is not its own anchor,
        negatives are drawn once a batch from all samples, a sample that is among them leaves itself out, and each side
        has the anchors of the memory it is compared with.

    Example:
        >>> loss = CRCD(student=(4,), teacher=(6,), samples=10, negatives=5, feat_dim=8)
        >>> loss(torch.randn(3, 4), torch.randn(3, 6), index=torch.tensor([0, 7, 3])).shape
        torch.Size([3])
        >>> loss.commit()
    """

    def __init__(
        self,
        *,
        student: Sequence[int] | None = None,
        teacher: Sequence[int] | None = None,
        samples: int | None = None,
        negatives: int = 500,
        feat_dim: int = 128,
        temperature: float = 0.05,
        momentum: float = 0.5,
    ) -> None:
        super().__init__(
            student=student,
            teacher=teacher,
            samples=samples,
            negatives=negatives,
            feat_dim=feat_dim,
            temperature=temperature,
            momentum=momentum,
        )

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Build heads and memories, once; remembered rows have unit length from the start."""
        known = bool(self.samples)
        super().bind(student, teacher, samples)
        if not known:
            for memory in (self.student_memory, self.teacher_memory):
                memory.copy_(F.normalize(memory, dim=1))

    def forward(self, student: Tensor, teacher: Tensor, /, *, index: Tensor) -> Tensor:
        """The loss against freshly drawn negatives.

        Args:
            student: ``[B, ...]``.
            teacher: ``[B, ...]``.
            index: Number of each sample in the training set, int64 ``[B]``, in [0, samples).

        Returns:
            ``[B]``, both sides added, the mean over a sample's anchors; 0 for a batch of one, which has none.
        """
        return super().forward(student, teacher, index=index)

    def _compare(self, sides: Sequence[tuple[Tensor, Tensor]], index: Tensor, others: Tensor, learning: bool) -> Tensor:
        """Both losses, ``[2, B]``."""
        relations = [self._relations(embed, memory, index, others) for embed, memory in sides]
        log_z = self._log_normaliser([torch.cat([own[..., None], far], dim=2) for own, far in relations], learning)
        floor, noise = self._log_noise(index, others.shape[-1])
        count = others.shape[-1]
        heard = (others != index[:, None]).to(sides[0][0].dtype)
        share = heard * (count / heard.sum(dim=1, keepdim=True).clamp(min=1))
        anchors = 1 - torch.eye(len(index), dtype=share.dtype, device=share.device)
        found = []
        for (own, far), shift in zip(relations, log_z, strict=True):
            right = F.softplus(floor - (own - shift))
            wrong = torch.einsum("bak,bk->ba", F.softplus(far - (shift + floor)), share) + (floor - noise) * count
            found.append(((right + wrong) * anchors).sum(dim=1) / max(len(index) - 1, 1))
        return torch.stack(found)

    def _relations(self, embed: Tensor, memory: Tensor, index: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines over the temperature: of the own row ``[B, A]``, of each other ``[B, A, K]``; A anchors."""
        anchors = memory[index].to(embed.dtype)
        rows = memory.index_select(0, others).to(embed.dtype)
        long = anchors.square().sum(dim=1)
        to_anchor, between = embed @ anchors.T, anchors @ anchors.T
        towards = _inverse(embed.square().sum(dim=1)[:, None] - 2 * to_anchor + long)
        from_anchor = anchors @ rows.T
        lengths = _inverse(rows.square().sum(dim=1) - 2 * from_anchor + long[:, None]) / self.temperature
        said = embed @ rows.T
        # (embed - anchor) @ (row - anchor), for each sample, anchor and row, over both lengths.
        far = said[:, None] + (long[:, None] - from_anchor) - to_anchor[..., None]
        far = far * towards[..., None] * lengths
        own = (embed * anchors).sum(dim=1)[:, None] - to_anchor - between + long
        own = own * towards * _inverse(long[:, None] - 2 * between + long)
        return own / self.temperature, far


def _inverse(squared: Tensor) -> Tensor:
    """One over the length; 0 where two samples coincide."""
    apart = squared > 1e-6
    found: Tensor = torch.where(apart, torch.where(apart, squared, 1.0).rsqrt(), 0.0)
    return found
