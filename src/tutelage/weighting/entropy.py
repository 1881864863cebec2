"""Trust teachers that are sure of themselves."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, by_path, whole


class Entropy(Weighting):
    """Per sample, share each path among its teachers by how sure each is of its answer.

    With K teachers on a path and ``h_k`` the entropy of teacher k's answer at temperature 1, teacher k gets
    ``(1 - h_k / sum(h)) / (K - 1)``: the weights of a sample sum to 1, and with two teachers each gets the other's
    share of the entropy. No label is looked at: a teacher that is sure and wrong gets the most, which `Trust`
    prevents where there are labels. One teacher alone has weight 1; where nobody has any entropy, or an
    answer holds no classes, all share equally. Over several positions (pixels, tokens) the entropy is their mean. An
    answer that is not finite counts as knowing nothing. Where the loss of a path is one number for the whole batch,
    each teacher gets the mean of its shares. Each process weighs its own samples.

    Args:
        published: Divide by K instead of K - 1, as the published code does: the weights of a sample then sum to
            ``(K - 1) / K``.

    Reference:
        Kwon et al. 2020, "Adaptive knowledge distillation based on entropy", ICASSP, as implemented beside CA-MKD
        (arXiv:2201.00007), whose weights sum to K - 1 and whose loss divides by K (`published`). That code takes
        ``p log p`` of a plain softmax, which is not a number once a probability is 0; here it is 0.

    Example:
        >>> from tutelage.ledger import Batch
        >>> rows = (Row("base"), Row("logits", "sure"), Row("logits", "torn"))
        >>> gate = Entropy()
        >>> gate.bind(rows, Spec(call=None, taps={}))
        >>> one = torch.zeros(1, dtype=torch.int64)
        >>> said = {"sure": {"": torch.tensor([[9.0, 0.0]])}, "torn": {"": torch.tensor([[0.0, 0.0]])}}
        >>> gate(Ledger(rows, torch.ones(3, 1)), Lesson(Batch(one, one, one, one, one.bool()), {}, said, {})).flatten()
        tensor([1.0000, 0.9982, 0.0018])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    per_sample: ClassVar[bool] = True
    averages: ClassVar[bool] = True

    def __init__(self, *, published: bool = False) -> None:
        super().__init__()
        self.published = published
        self._classes = 0
        self._batchwise: frozenset[str] = frozenset()

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Learn how many classes an answer has."""
        super().bind(rows, spec)
        self._classes = len(spec.classes)
        self._batchwise = spec.batchwise

    @torch.no_grad()
    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """Shares in [0, 1], ``[K, B]``; they sum to 1 over the teachers of a path unless `published`."""
        doubts = {name: entropy(said.get(""), self._classes) for name, said in lesson.teachers.items()}
        weights = torch.ones_like(ledger.losses)
        for members in by_path(ledger.rows).values():
            if len(members) > 1:
                heard = [doubts.get(ledger.rows[k].teacher or "") for k in members]
                weights[members] = self._shares(heard, weights[members]).to(weights.dtype)
        return whole(weights, ledger.rows, self._batchwise)

    def _shares(self, heard: list[Tensor | None], ones: Tensor) -> Tensor:
        """``[K, B]`` from the entropies of K teachers; equal where they are unknown or all 0."""
        known = [doubt for doubt in heard if doubt is not None]
        teachers = len(heard)
        shares = ones / teachers
        if len(known) == teachers:
            doubt = torch.stack(known)
            total = doubt.sum(dim=0)
            shares = torch.where(total > 0, (1 - doubt / total) / (teachers - 1), 1 / teachers)
        return shares * (1 - 1 / teachers) if self.published else shares


def entropy(answer: Tensor | None, classes: int = 0) -> Tensor | None:
    """Entropy of an answer at temperature 1, ``[B]``, in nats: the mean over positions; None where it has no classes.

    Args:
        answer: Logits with classes second or last.
        classes: How many classes there are; 0 if unknown, when classes are last in ``[B, T, C]`` and second elsewhere.

    Returns:
        ``[B]``, in [0, log C]; log C where an answer is not finite.

    Example:
        >>> entropy(torch.tensor([[0.0, 0.0], [1e4, 0.0]]))
        tensor([0.6931, 0.0000])
    """
    if answer is None or answer.ndim < 2:
        return None
    dim = -1 if answer.shape[-1] == classes != answer.shape[1] or (answer.ndim == 3 and not classes) else 1
    if classes and answer.shape[dim] != classes:
        return None
    log_prob = answer.to(torch.promote_types(answer.dtype, torch.float32)).log_softmax(dim)
    each = -(log_prob.exp() * log_prob.clamp(min=-1e4)).sum(dim)
    each = each.nan_to_num(nan=math.log(answer.shape[dim]))
    return each.reshape(len(answer), -1).mean(dim=1)
