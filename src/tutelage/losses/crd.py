"""Contrastive representation distillation: know a sample, seen by the other network, among many."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .alias import alias_draw, alias_tables
from .precision import full

EPS = 1e-7


class CRD(nn.Module):
    """Noise-contrastive loss between learned embeddings of both networks, with a memory of every sample.

    A learned linear head for each network embeds its vector on the unit sphere. The student's embedding is
    compared with the teacher's remembered one of the same sample and of `negatives` others, and the teacher's
    with the student's. After the step, `commit` moves the remembered rows towards the new embeddings; under
    several processes each remembers what all have seen.

    One set of negatives serves the whole batch, so that a step takes ``B * negatives`` numbers; a sample that is among
    them leaves itself out. Sets of their own for each sample take ``B * samples``.

    Args:
        student: Shape of one sample, usually ``(D,)``; others are flattened. None to learn it in `bind`.
        teacher: Shape of one sample of the teacher; None to learn it in `bind`.
        samples: Size of the training set, one more than the largest index; None to learn it in `bind`.
        negatives: Other samples to compare with, at most ``samples - 1``.
        feat_dim: Width of the embeddings.
        temperature: What cosines are divided by, > 0.
        momentum: Share of the old memory that is kept, in [0, 1).
        shared: Draw one set of negatives for the whole batch; if False, one for each sample.
        weights: How often each sample is drawn as a negative, relative to the others, ``[samples]``; None for all
            alike. Needs `shared`.

    Raises:
        ValueError: A size is not known, there is one sample alone, or an option is out of range.

    Reference:
        Tian, Krishnan & Isola 2020, arXiv:1910.10699, sec. 3. As in its code, the first batch sets the
        normalising constants, one for each side. Unlike its code, negatives are drawn with replacement from
        all other samples rather than from other classes, so labels are not needed, and once a batch rather than once
        a sample (``shared=False``), which changes the loss's variance but not its expectation; with `weights` the
        noise is what is drawn, where the code takes it for uniform; a vector of zero length embeds to zero; of several
        views of one sample within a step, the memory takes in the last.

    Example:
        >>> loss = CRD(student=(4,), teacher=(6,), samples=10, negatives=5, feat_dim=8)
        >>> loss(torch.randn(3, 4), torch.randn(3, 6), index=torch.tensor([0, 7, 3])).shape
        torch.Size([3])
        >>> loss.commit()
    """

    student_head: nn.Linear
    teacher_head: nn.Linear
    student_memory: Tensor
    teacher_memory: Tensor
    log_z: Tensor
    kept: Tensor
    other: Tensor
    log_share: Tensor

    def __init__(
        self,
        *,
        student: Sequence[int] | None = None,
        teacher: Sequence[int] | None = None,
        samples: int | None = None,
        negatives: int = 16384,
        feat_dim: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
        shared: bool = True,
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if negatives < 1 or feat_dim < 1 or not temperature > 0 or not 0 <= momentum < 1:
            raise ValueError(
                "CRD: expected negatives >= 1, feat_dim >= 1, temperature > 0 and 0 <= momentum < 1; found "
                f"{negatives}, {feat_dim}, {temperature} and {momentum}."
            )
        if weights is not None and not shared:
            raise ValueError("CRD: expected shared=True with weights, found False. Leave one of them out.")
        self.given = student, teacher, samples
        self.negatives, self.feat_dim = negatives, feat_dim
        self.shared, self.weights = shared, weights
        self.temperature, self.momentum = temperature, momentum
        self.samples = 0
        self._settled = False
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self.register_load_state_dict_post_hook(_unsettle)  # type: ignore[no-untyped-call]
        if None not in self.given:
            self.bind(None, None, None)

    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        """Build heads and memories, once, for these shapes of one sample and this many samples."""
        if self.samples:
            return
        student = student if self.given[0] is None else tuple(self.given[0])
        teacher = teacher if self.given[1] is None else tuple(self.given[1])
        samples = samples if self.given[2] is None else self.given[2]
        if student is None or teacher is None or samples is None:
            raise ValueError(
                f"CRD: needs to know student, teacher and samples; found {student}, {teacher} and {samples}. "
                "Give them to the constructor: shapes of one sample, e.g. student=(64,), teacher=(256,), and "
                "samples= one more than the largest index; or give the distiller `example` and `samples`."
            )
        if samples < 2:
            raise ValueError(f"CRD: expected at least 2 samples to compare, found {samples}.")
        self.samples, self.negatives = samples, min(self.negatives, samples - 1)
        self.student_head = nn.Linear(math.prod(student), self.feat_dim)
        self.teacher_head = nn.Linear(math.prod(teacher), self.feat_dim)
        for name in ("student_memory", "teacher_memory"):
            reach = 1 / math.sqrt(self.feat_dim / 3)
            self.register_buffer(name, torch.empty(self.samples, self.feat_dim).uniform_(-reach, reach))
        self.register_buffer("log_z", torch.full((2,), torch.nan))
        if self.weights is not None:
            self._weigh(torch.as_tensor(self.weights, dtype=torch.float64))

    def _weigh(self, weights: Tensor) -> None:
        if weights.shape != (self.samples,):
            raise ValueError(f"CRD: expected one weight for each of {self.samples} samples, found {weights.shape}.")
        kept, other = alias_tables(weights)
        share = (weights / weights.sum()).log().float()
        for name, table in {"kept": kept, "other": other, "log_share": share}.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, student: Tensor, teacher: Tensor, /, *, index: Tensor) -> Tensor:
        """The loss against freshly drawn negatives.

        Args:
            student: ``[B, ...]``.
            teacher: ``[B, ...]``.
            index: Number of each sample in the training set, int64 ``[B]``, in [0, samples).

        Returns:
            ``[B]``, both sides added: tens at the start, with a floor above 0.
        """
        return self.sides(student, teacher, index=index, others=self.draw(index)).sum(dim=0)

    def draw(self, index: Tensor) -> Tensor:
        """Numbers of other samples, with replacement: one set ``[negatives]``, or one for each, ``[B, negatives]``.

        Sets of their own never hold the own sample.
        """
        if self.weights is not None:
            return alias_draw(self.kept, self.other, self.negatives)
        if self.shared:
            return torch.randint(self.samples, (self.negatives,), device=index.device)
        others = torch.randint(self.samples - 1, (len(index), self.negatives), device=index.device)
        return others + (others >= index[:, None])

    def sides(self, student: Tensor, teacher: Tensor, *, index: Tensor, others: Tensor) -> Tensor:
        """The student's and the teacher's loss, ``[2, B]``, against the samples `others`, ``[K]`` or ``[B, K]``.

        Of ``[K]``, each sample leaves itself out, and the others weigh so much more.
        """
        if not self.samples:
            raise ValueError("CRD: not bound. Give student=, teacher= and samples=, or call bind() first.")
        if not index.is_cuda and not 0 <= int(index.min()) <= int(index.max()) < self.samples:
            raise ValueError(
                f"CRD: expected sample numbers in [0, {self.samples}), found {int(index.min())} to "
                f"{int(index.max())}. They must be stable and count the training set."
            )
        learning = self.training and torch.is_grad_enabled()
        if learning:
            self._start_alike()
        with torch.autocast(student.device.type, enabled=False):
            student_embed = self._embed(self.student_head, student)
            teacher_embed = self._embed(self.teacher_head, teacher.detach())
            sides = (student_embed, self.teacher_memory), (teacher_embed, self.student_memory)
            loss = self._compare(sides, index, others, learning)
        if learning:
            self._seen.append((index, student_embed.detach(), teacher_embed.detach()))
        return loss

    @torch.no_grad()
    def commit(self) -> None:
        """Remember what was seen since the last time. Called once after the step, by every process."""
        if not self._seen and _processes() == 1:
            return
        width = self.student_memory.new_empty(0, self.feat_dim)
        seen = self._seen or [(torch.empty(0, dtype=torch.int64, device=width.device), width, width)]
        index, student, teacher = (_from_all(torch.cat(part)) for part in zip(*seen, strict=True))
        self._seen = []
        order = index.argsort(stable=True)
        last = torch.ones_like(order, dtype=torch.bool)
        last[:-1] = index[order][1:] != index[order][:-1]
        rows = order[last]
        for memory, new in (self.student_memory, student), (self.teacher_memory, teacher):
            mixed = self.momentum * memory[index[rows]].to(new.dtype) + (1 - self.momentum) * new[rows]
            memory[index[rows]] = F.normalize(mixed, dim=1).to(memory.dtype)

    def _embed(self, head: nn.Linear, x: Tensor) -> Tensor:
        x = full(x).flatten(1)
        return F.normalize(F.linear(x, head.weight.to(x.dtype), head.bias.to(x.dtype)), dim=1)

    def _start_alike(self) -> None:
        """Before the first step, every process takes over the random memories of the first."""
        if not self._settled and _processes() > 1 and self.log_z.isnan().any():
            dist.broadcast(self.student_memory, 0)
            dist.broadcast(self.teacher_memory, 0)

    def _compare(self, sides: Sequence[tuple[Tensor, Tensor]], index: Tensor, others: Tensor, learning: bool) -> Tensor:
        """Both losses, ``[2, B]``, of embeddings against memories."""
        own = [(embed * memory[index].to(embed.dtype)).sum(dim=1) / self.temperature for embed, memory in sides]
        scores: list[Tensor] = []
        if self._unsettled():
            with torch.no_grad():
                far = [self._log_scores(embed, memory, others) for embed, memory in sides]
                scores = [torch.cat([x[:, None], y], dim=1) for x, y in zip(own, far, strict=True)]
        log_z = self._log_normaliser(scores, learning).to(own[0].dtype)
        return torch.stack(
            [
                self._contrast(embed, memory, others, index, score - shift, shift)
                for (embed, memory), score, shift in zip(sides, own, log_z, strict=True)
            ]
        )

    def _unsettled(self) -> bool:
        return not self._settled and bool(self.log_z.isnan().any())

    def _log_normaliser(self, scores: Sequence[Tensor], learning: bool) -> Tensor:
        """Logarithms of the two normalising constants ``[2]``; set by the scores of the first batch learned from."""
        if self._unsettled():
            log_mean = torch.stack([x.detach().flatten().logsumexp(dim=0) - math.log(x.numel()) for x in scores])
            if not learning:
                return log_mean + math.log(self.samples)
            log_mean = _from_all(log_mean[None]).logsumexp(dim=0) - math.log(_processes())
            self.log_z.copy_(log_mean + math.log(self.samples))
        self._settled = True
        return self.log_z

    def _log_scores(self, embed: Tensor, memory: Tensor, others: Tensor) -> Tensor:
        """Scores of each sample with the others', ``[B, K]``."""
        if others.dim() == 1:
            return embed @ memory[others].to(embed.dtype).T / self.temperature
        return (embed @ memory.to(embed.dtype).T).gather(1, others) / self.temperature

    def _contrast(
        self, embed: Tensor, memory: Tensor, others: Tensor, index: Tensor, own: Tensor, log_z: Tensor
    ) -> Tensor:
        """``-log x / (x + c)`` of the own sample, ``-log c / (x + c)`` of each other, from ``log x``."""
        count = others.shape[-1]
        own_floor, _ = self._log_noise(index, count)
        floor, noise = self._log_noise(others, count)
        right: Tensor = F.softplus(own_floor - own)
        if others.dim() > 1:
            each: Tensor = F.softplus(self._log_scores(embed, memory, others) - log_z - floor) + (floor - noise)
            return right + each.sum(dim=1)
        rows = memory.index_select(0, others).to(embed.dtype)
        wrong = _Against.apply(embed / self.temperature, rows, log_z + floor)
        constant = (floor - noise) * count if isinstance(floor, float) else (floor - noise).sum()
        itself = index.new_zeros(self.samples).scatter_add_(0, others, torch.ones_like(others))[index]
        # What it has for itself is taken out again: the sums are over all pairs at once.
        wrong = (wrong - itself * F.softplus(own - own_floor)) * count / (count - itself).clamp(min=1)
        total: Tensor = right + wrong + constant
        return total

    def _log_noise(self, index: Tensor, count: int) -> tuple[Any, Any]:
        """Of each sample, the logarithms of ``c + EPS`` and of c, its expected number among so many draws."""
        if self.weights is None:
            noise = count / self.samples
            return math.log(noise + EPS), math.log(noise)
        log_noise = self.log_share[index] + math.log(count)
        return (log_noise.exp() + EPS).log(), log_noise


class _Against(torch.autograd.Function):
    """The sum over the rows of ``softplus(anchor @ row - shift)``, for each anchor: one matrix is kept, not four."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, rows: Tensor, shift: Tensor) -> Tensor:
        scores = (rows @ anchors.T).sub_(shift[:, None] if shift.dim() else shift)
        total: Tensor = F.softplus(scores).sum(dim=0)
        ctx.save_for_backward(scores.sigmoid_(), rows)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        share, rows = ctx.saved_tensors
        return gradients[0][:, None] * (share.T @ rows), None, None


def _unsettle(loss: CRD, _: Any) -> None:
    """A loaded state says itself whether its constants are set."""
    loss._settled = False


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _from_all(x: Tensor) -> Tensor:
    """The rows of all processes, in their order; they may have different numbers of rows."""
    if _processes() == 1:
        return x
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(_processes())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    most = int(torch.cat(counts).max())
    padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[: int(count)] for rows, count in zip(gathered, counts, strict=True)])
