"""Trust teachers by what they know about each sample."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, by_path, whole


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

    Args:
        temperature: Above 1 the shares are more equal; the cross-entropies themselves are not tempered.
        shares: ``"confidence"`` or ``"likelihood"``, as above.
        on: ``"auto"`` as above; ``"logits"`` judges all paths by the teacher's own answer.
        absolute: Also multiply by ``exp(-max(0, ce_teacher - ce_student))``, so that all teachers can be
            switched off together: a teacher that knows the sample less well than the student is
            hardly heard.
        through_weights: Let gradient flow through the weights of feature paths.

    Reference:
        Zhang, Chen, Wang 2022, "Confidence-aware multi-teacher knowledge distillation", arXiv:2201.00007,
        eq. 3 and 6. Deviations: the published code divides once more by K, and lets gradient flow
        through the weights of features into the student (`through_weights`); `absolute` and ``"likelihood"`` are ours.

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
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"Trust: expected temperature above 0; found {temperature}.")
        if on not in ("auto", "logits"):
            raise InputError(f"Trust: expected on='auto' or 'logits'; found {on!r}.")
        if shares not in ("confidence", "likelihood"):
            raise InputError(f"Trust: expected shares='confidence' or 'likelihood'; found {shares!r}.")
        self.temperature = temperature
        self.shares = shares
        self.on = on
        self.absolute = absolute
        self.through_weights = through_weights
        self._heads: Mapping[str, nn.Module] = {}
        self._responses: frozenset[str] = frozenset()
        self._batchwise: frozenset[str] = frozenset()

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Keep the teachers' classifiers at hand; they stay the teachers' own."""
        super().bind(rows, spec)
        self._heads = dict(spec.heads)
        self._responses = spec.responses
        self._batchwise = spec.batchwise

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """Shares in [0, 1], ``[K, B]``; without `absolute` they sum to 1 over the teachers of a path."""
        with torch.set_grad_enabled(self.through_weights and torch.is_grad_enabled()):
            return self._weights(ledger, lesson)

    def _weights(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        said = {name: outputs.get("") for name, outputs in lesson.teachers.items()}
        if self.absolute:
            said[""] = lesson.student.get("")
        answers = dict(zip(said, label_doubts(list(said.values()), lesson), strict=True))
        credits = {name: _credit(doubt, answers.get("")) for name, doubt in answers.items()}
        weights = list(torch.ones_like(ledger.losses.detach()))
        for members in by_path(ledger.rows).values():
            rows = [ledger.rows[k] for k in members]
            spoken = [answers.get(row.teacher or "") for row in rows]
            heard = label_doubts([self._read_by_head(row, lesson) for row in rows], lesson)
            shares = self._shares(spoken if any(d is None for d in heard) else heard, weights[0])
            for k, row, share in zip(members, rows, shares, strict=True):
                credit = credits.get(row.teacher or "")
                weights[k] = share if credit is None else share * credit
        stacked = torch.stack([weight.to(ledger.losses.dtype) for weight in weights])
        return whole(stacked, ledger.rows, self._batchwise)

    def _shares(self, doubts: list[Tensor | None], ones: Tensor) -> list[Tensor]:
        """One ``[B]`` for each teacher; they sum to 1, and are equal where a doubt is unknown."""
        known = [doubt for doubt in doubts if doubt is not None]
        equal = 1 / len(doubts)
        if len(known) < len(doubts) or len(doubts) == 1:
            return [equal * ones] * len(doubts)
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


def _credit(teacher: Tensor | None, student: Tensor | None) -> Tensor | None:
    """1 where the teacher doubts no more than the student or a doubt is unknown, falling to 0 beyond."""
    if teacher is None or student is None:
        return None
    return (student.detach() - teacher).nan_to_num(nan=0.0).clamp(max=0.0).exp()


def _pooled(feature: Tensor) -> Tensor:
    """One vector a sample: maps ``[B, D, H, W]`` and tokens ``[B, T, D]`` are averaged over positions."""
    if feature.ndim == 3:
        return feature.mean(dim=1)
    return feature.flatten(2).mean(dim=2) if feature.ndim > 3 else feature.flatten(1)


def label_doubts(answers: list[Tensor | None], lesson: Lesson) -> list[Tensor | None]:
    """Cross-entropy of each answer with the label, ``[B]``; None where it does not line up with the labels at all.

    Answers of one shape are taken at once, so that several teachers cost what one does.
    """
    known = [x for x in answers if x is not None and _lines_up(x, lesson.batch.target)]
    if len(known) == len(answers) > 0 and len({x.shape for x in known}) == 1:
        return list(_doubts(torch.stack(known), lesson))
    return [
        None if x is None or not _lines_up(x, lesson.batch.target) else _doubts(x[None], lesson)[0] for x in answers
    ]


def _lines_up(logits: Tensor, target: Tensor) -> bool:
    """Whether there is one label for each prediction: classes come second, or last; or the labels are soft."""
    if logits.ndim < 2:
        return False
    if target.is_floating_point():
        return target.shape == logits.shape and logits.ndim == 2
    return target.shape in (logits.shape[:-1], logits.shape[:1] + logits.shape[2:])


def _doubts(answers: Tensor, lesson: Lesson) -> Tensor:
    """Cross-entropy of answers ``[K, B, ...]`` with the label, ``[K, B]``: the mean over positions that have one.

    NaN where a sample has no usable label, large where the answer is not finite.
    """
    target, usable = lesson.batch.target, lesson.batch.labelled
    logits = answers.to(torch.promote_types(answers.dtype, torch.float32)).flatten(0, 1)
    many = (len(answers),) + (1,) * (target.ndim - 1)
    if target.is_floating_point():
        each = F.cross_entropy(logits, target.to(logits).repeat(many), reduction="none")
        doubts = each.view(answers.shape[:2])
    else:
        if target.shape == answers.shape[1:-1]:
            logits = logits.movedim(-1, 1)
        valid = (target >= 0) & (target < logits.shape[1])
        each = F.cross_entropy(logits, target.where(valid, 0).repeat(many), reduction="none")
        doubts = each.view(*answers.shape[:2], -1)
        if target.ndim > 1:
            valid = valid.flatten(1)
            count = valid.sum(dim=1)
            doubts, valid = doubts.where(valid, 0.0).sum(dim=2) / count.clamp(min=1), count > 0
        else:
            doubts = doubts.squeeze(2)
        usable = usable & valid
    return doubts.nan_to_num(nan=1e4, posinf=1e4).where(usable, torch.nan)
