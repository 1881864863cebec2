"""Trust teachers by what they know about each sample."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec

from .base import Weighting, by_path, parted, whole


class Trust(Weighting):
    """Per sample, share each path among its teachers and leave out those that are wrong.

    With K teachers on a path and ``ce_k`` teacher k's cross-entropy with the label, teacher k gets
    ``(1 - softmax(ce)_k) / (K - 1)``: the weights of a sample sum to 1, the worst teacher gets the least, and the
    others share nearly alike however different they are. With ``shares="likelihood"`` it gets ``softmax(-ce)_k``,
    its share of all that the teachers give to the label: several bad teachers are left out together.

    On a path of features a teacher is judged by its own classifier reading the student's adapted feature, averaged
    over positions, where that classifier is known and fits; else, on the output and where a path reads several taps,
    by the teacher's own answer. One teacher alone has weight 1. Samples without a label, and teachers whose answer
    does not line up with the labels, share equally. Where the loss of a path is one number for the whole batch, each
    teacher gets the mean of its shares.

    Where the truth is no class, the task may say what takes the place of the cross-entropy (`Task.doubt`). Of enlarged
    pictures it is the logarithm of the mean absolute difference: shares by likelihood go as ``1 / difference``.

    Where a teacher answers several positions (pixels, tokens), its cross-entropy is their mean, and one weight holds
    for the whole sample. With ``per="pixel"`` every position is weighed for itself, on paths on the output whose loss
    takes an ``element_weight`` (`kl`, `soft_cross_entropy`, `one_vs_all`): a teacher that is wrong in one half of a
    picture counts in the other. Other paths keep one weight for each sample. A position without a label is weighed
    by the mean over those of its sample that have one.

    Args:
        temperature: Above 1 the shares are more equal; the cross-entropies themselves are not tempered.
        shares: ``"confidence"`` or ``"likelihood"``, as above.
        on: ``"auto"`` as above; ``"logits"`` judges all paths by the teacher's own answer.
        absolute: Also multiply by ``exp(-max(0, ce_teacher - ce_student))``, so that all teachers can be
            switched off together: a teacher that knows the sample less well than the student is
            hardly heard.
        through_weights: Let gradient flow through the weights of feature paths.
        per: What is weighed for itself, ``"sample"`` or ``"pixel"``.

    Reference:
        Zhang, Chen, Wang 2022, "Confidence-aware multi-teacher knowledge distillation", arXiv:2201.00007,
        eq. 3 and 6. Deviations: the published code divides once more by K, and lets gradient flow
        through the weights of features into the student (`through_weights`); `absolute`, ``"likelihood"`` and
        ``"pixel"`` are ours.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
        >>> rows = (Row("base"), Row("logits", "good"), Row("logits", "bad"))
        >>> gate = Trust()
        >>> gate.bind(rows, Spec(call=None, taps={}))
        >>> one = torch.zeros(1, dtype=torch.int64)
        >>> batch = Batch(one, one, one, one, labelled=torch.ones(1, dtype=torch.bool))
        >>> said = {"good": {"": torch.tensor([[9.0, 0.0]])}, "bad": {"": torch.tensor([[0.0, 9.0]])}}
        >>> gate(Ledger(rows, torch.ones(3, 1)), Lesson(batch, {}, said, {})).flatten().round(decimals=2)
        tensor([1., 1., 0.])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    per_sample: ClassVar[bool] = True
    averages: ClassVar[bool] = True

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        shares: Literal["confidence", "likelihood"] = "confidence",
        on: Literal["auto", "logits"] = "auto",
        absolute: bool = False,
        through_weights: bool = False,
        per: Literal["sample", "pixel"] = "sample",
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"Trust: expected temperature above 0; found {temperature}.")
        if on not in ("auto", "logits"):
            raise InputError(f"Trust: expected on='auto' or 'logits'; found {on!r}.")
        if shares not in ("confidence", "likelihood"):
            raise InputError(f"Trust: expected shares='confidence' or 'likelihood'; found {shares!r}.")
        if per not in ("sample", "pixel"):
            raise InputError(f"Trust: expected per='sample' or 'pixel'; found {per!r}.")
        self.temperature = temperature
        self.shares = shares
        self.on = on
        self.absolute = absolute
        self.through_weights = through_weights
        self.per = per
        self._heads: Mapping[str, nn.Module] = {}
        self._responses: frozenset[str] = frozenset()
        self._batchwise: frozenset[str] = frozenset()
        self._by_pixel: frozenset[str] = frozenset()
        self._doubt: Callable[[Tensor, Batch], Tensor | None] | None = None

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Keep the teachers' classifiers at hand; they stay the teachers' own."""
        super().bind(rows, spec)
        self._heads = dict(spec.heads)
        self._responses = spec.responses
        self._batchwise = spec.batchwise
        self._doubt = spec.doubt
        self._by_pixel = spec.elementwise if self.per == "pixel" else frozenset()

    @torch.no_grad()
    def elements(self, lesson: Lesson) -> dict[str, Tensor]:
        """Where in a sample each teacher is trusted, on the paths that are weighed by pixel."""
        if not self._by_pixel:
            return {}
        mask, worth = lesson.batch.extras.get("mask"), self._worth(self.rows, lesson)
        return {self.rows[k].name: parted(weight, mask)[1] for k, weight in worth.items() if weight.ndim > 1}

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """Shares in [0, 1], ``[K, B]``; without `absolute` they sum to 1 over the teachers of a path."""
        with torch.set_grad_enabled(self.through_weights and torch.is_grad_enabled()):
            mask, worth = lesson.batch.extras.get("mask"), self._worth(ledger.rows, lesson)
            weights = list(torch.ones_like(ledger.losses.detach()))
            for k, weight in worth.items():
                weights[k] = (parted(weight, mask)[0] if weight.ndim > 1 else weight).to(ledger.losses.dtype)
            return whole(torch.stack(weights), ledger.rows, self._batchwise)

    def _worth(self, rows: Sequence[Row], lesson: Lesson) -> dict[int, Tensor]:
        """How much each row that has a teacher counts, by its number: ``[B]``, or ``[B, ...]`` by pixel."""
        said = {name: taps.get("") for name, taps in lesson.teachers.items()}
        if self.absolute:
            said[_STUDENT] = lesson.student.get("")
        by_pixel = dict(zip(said, self._doubts(list(said.values()), lesson), strict=True))
        doubts = {False: {name: _overall(doubt) for name, doubt in by_pixel.items()}}
        if self._by_pixel:
            doubts[True] = by_pixel
        credits = {pixel: {k: _credit(d, of.get(_STUDENT)) for k, d in of.items()} for pixel, of in doubts.items()}
        found = {}
        for path, members in by_path(rows).items():
            pixel = path in self._by_pixel
            spoken = [doubts[pixel].get(rows[k].teacher or "") for k in members]
            heard = label_doubts([self._read_by_head(rows[k], lesson) for k in members], lesson)
            shares = self._shares(spoken if any(d is None for d in heard) else heard, lesson)
            for k, share in zip(members, shares, strict=True):
                factor = credits[pixel].get(rows[k].teacher or "")
                found[k] = share if factor is None else share * factor
        return found

    def _doubts(self, answers: list[Tensor | None], lesson: Lesson) -> list[Tensor | None]:
        """How little each answer fits the truth: by the label, else as the task has it."""
        found = label_doubts(answers, lesson, self.per)
        pairs = zip(answers, found, strict=True)
        return [self._by_task(x, lesson.batch) if known is None and x is not None else known for x, known in pairs]

    def _by_task(self, answer: Tensor, batch: Batch) -> Tensor | None:
        """What the task makes of an answer: NaN where a sample is not labelled, large where it is not finite."""
        doubt = None if self._doubt is None else self._doubt(answer, batch)
        return None if doubt is None else _finite(doubt).where(batch.labelled, torch.nan)

    def _shares(self, doubts: list[Tensor | None], lesson: Lesson) -> list[Tensor]:
        """One for each teacher, shaped like a doubt; they sum to 1, and are equal where a doubt is unknown."""
        known = [doubt for doubt in doubts if doubt is not None]
        equal = 1 / len(doubts)
        if len(known) < len(doubts) or len(doubts) == 1:
            like = known[0] if known else lesson.batch.labelled
            return [torch.full_like(like, equal, dtype=torch.float32)] * len(doubts)
        doubt = torch.stack(known)
        tempered = doubt.nan_to_num(nan=0.0) / self.temperature
        if self.shares == "likelihood":
            found = (-tempered).softmax(dim=0)
        else:
            found = (1 - tempered.softmax(dim=0)) / (len(doubts) - 1)
        return list(torch.where(doubt.isnan().any(dim=0), equal, found))

    def _read_by_head(self, row: Row, lesson: Lesson) -> Tensor | None:
        """What the teacher's classifier makes of the adapted feature; None where it does not apply."""
        head, feature = self._heads.get(row.teacher or ""), lesson.adapted.get(row.name)
        if self.on == "logits" or row.path in self._responses or head is None or not isinstance(feature, Tensor):
            return None
        first = next((part for part in head.modules() if isinstance(part, nn.Linear)), None)
        pooled = _pooled(feature)
        if first is None or first.in_features != pooled.shape[1]:
            return None
        read: Tensor = head(pooled.to(first.weight.dtype))
        return read


_STUDENT = ""
"""Beside the teachers' names, which are not empty."""


def _credit(teacher: Tensor | None, student: Tensor | None) -> Tensor | None:
    """1 where the teacher doubts no more than the student or a doubt is unknown, falling to 0 beyond."""
    if teacher is None or student is None:
        return None
    return (student.detach() - teacher).nan_to_num(nan=0.0).clamp(max=0.0).exp()


def _overall(doubt: Tensor | None) -> Tensor | None:
    """One doubt a sample: the mean over its positions."""
    return doubt if doubt is None or doubt.ndim == 1 else doubt.flatten(1).mean(dim=1)


def _pooled(feature: Tensor) -> Tensor:
    """One vector a sample: maps ``[B, D, H, W]`` and tokens ``[B, T, D]`` are averaged over positions."""
    if feature.ndim == 3:
        return feature.mean(dim=1)
    return feature.flatten(2).mean(dim=2) if feature.ndim > 3 else feature.flatten(1)


def label_doubts(
    answers: list[Tensor | None], lesson: Lesson, per: Literal["sample", "pixel"] = "sample"
) -> list[Tensor | None]:
    """Cross-entropy of each answer with the label; None where it does not line up with the labels at all.

    One number a sample, ``[B]``, the mean over positions that have a label; or one a position, ``[B, ...]``, that mean
    where a position has none. Answers of one shape are taken at once, so that several teachers cost what one does.
    """
    known = [x for x in answers if x is not None and _lines_up(x, lesson.batch.target)]
    if len(known) == len(answers) > 0 and len({x.shape for x in known}) == 1:
        return list(_doubts(torch.stack(known), lesson, per))
    lines_up = [x is not None and _lines_up(x, lesson.batch.target) for x in answers]
    return [
        _doubts(x[None], lesson, per)[0] if fits and x is not None else None
        for fits, x in zip(lines_up, answers, strict=True)
    ]


def _lines_up(logits: Tensor, target: Tensor) -> bool:
    """Whether there is one label for each prediction: classes come second, or last; or the labels are soft."""
    if logits.ndim < 2:
        return False
    if target.is_floating_point():
        return target.shape == logits.shape and logits.ndim == 2
    return target.shape in (logits.shape[:-1], logits.shape[:1] + logits.shape[2:])


def _doubts(answers: Tensor, lesson: Lesson, per: Literal["sample", "pixel"]) -> Tensor:
    """Cross-entropy of answers ``[K, B, ...]`` with the label: the mean over positions that have one, or that of each.

    NaN where a sample has no usable label, large where the answer is not finite.
    """
    target, usable = lesson.batch.target, lesson.batch.labelled
    logits = answers.to(torch.promote_types(answers.dtype, torch.float32)).flatten(0, 1)
    many = (len(answers),) + (1,) * (target.ndim - 1)
    if target.is_floating_point():
        each = F.cross_entropy(logits, target.to(logits).repeat(many), reduction="none")
        doubts = each.reshape(answers.shape[:2])
    else:
        if target.shape == answers.shape[1:-1]:
            logits = logits.movedim(-1, 1)
        valid = (target >= 0) & (target < logits.shape[1])
        each = F.cross_entropy(logits, target.where(valid, 0).repeat(many), reduction="none")
        doubts = each.reshape(len(answers), *target.shape)
        if target.ndim == 1:
            usable = usable & valid
        else:
            doubts, usable = _averaged(doubts, valid, usable, per)
    return _finite(doubts).where(usable, torch.nan)


def _finite(doubts: Tensor) -> Tensor:
    """Doubts with a large number in place of those of an answer that is none."""
    return doubts.nan_to_num(nan=1e4, posinf=1e4)


def _averaged(
    doubts: Tensor, valid: Tensor, labelled: Tensor, per: Literal["sample", "pixel"]
) -> tuple[Tensor, Tensor]:
    """Doubts over the positions of a sample, or each with the mean in place of those without a label; which count."""
    count = valid.flatten(1).sum(dim=1)
    mean = doubts.where(valid, 0.0).flatten(2).sum(dim=2) / count.clamp(min=1)
    usable = labelled & (count > 0)
    if per == "sample":
        return mean, usable
    over = (..., *(None,) * (valid.ndim - 1))
    return doubts.where(valid, mean[over]), usable[over]
