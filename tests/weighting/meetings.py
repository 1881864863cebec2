"""Ledgers and lessons for the tests of weightings."""

import torch

from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
from tutelage.weighting import Weighting

CLASSES = 3
BASE = Row("base")
TEACHERS = tuple("abcdefg")


def rows(paths: int = 1, teachers: int = 2) -> tuple[Row, ...]:
    """The task, then every teacher on every path; the first path is on the output."""
    names = ["logits", *(f"layer{p}" for p in range(1, paths))]
    return BASE, *(Row(path, teacher) for path in names for teacher in TEACHERS[:teachers])


def bound(rule: Weighting, taught: tuple[Row, ...], **known) -> Weighting:
    """The rule, bound to these rows."""
    rule.bind(taught, Spec(call=None, taps={}, **known))
    return rule


def ledger(taught: tuple[Row, ...], losses) -> Ledger:
    """Losses ``[K, B]``, or one number a row for three samples."""
    losses = torch.as_tensor(losses, dtype=torch.float32)
    return Ledger(taught, losses if losses.ndim == 2 else losses[:, None].expand(-1, 3).clone())


def lesson(said=None, *, target=(0, 1, 2), labelled=None, student=None, adapted=None, extras=None) -> Lesson:
    """What each teacher said, by name; the student may say several things, by tap."""
    target = torch.as_tensor(target)
    index = torch.arange(len(target))
    known = torch.ones(len(target), dtype=torch.bool) if labelled is None else torch.tensor(labelled)
    batch = Batch(torch.zeros(len(target), 1), target, index, index, known, extras or {})
    student = student if isinstance(student, dict) else {} if student is None else {"": student}
    return Lesson(batch, student, {name: {"": x} for name, x in (said or {}).items()}, adapted or {})
