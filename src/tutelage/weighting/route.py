"""Route: each sample hears the teachers that are named for it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tutelage.errors import InputError, UnknownName, close_names
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, whole

CLASS = "class"

Names = str | Sequence[str]
"""One teacher by name, or several."""


class Route(Weighting):
    """Let each sample hear only the teachers that are named for it.

    For teachers that know one part of the data each: their classes, one camera, one language. A teacher that is named
    has weight 1 and any other 0, on all paths. Where several are named for a sample, each has weight 1: put a gate
    beside it that shares a path among them.

    A sample goes by its class, or by a column of the data. Mixed labels (probabilities of classes) go by every class
    for its share. Where the loss of a path is one number for the whole batch, a teacher gets the mean of its weights.

    Args:
        to: Value -> name of a teacher, or a list of names. Of classes: name or number of a class; needed. Of a column:
            what stands in it; without `to`, names of teachers stand there themselves.
        by: ``"class"``, or the name of a column in `Batch.extras`: for each of B samples one value, or a list of them.
        otherwise: Who is heard by samples without a label, without a value (None) or with one that `to` does not
            name; nobody at first.

    Raises:
        InputError: Classes without `to`; at `bind` (in a step where no batch was at hand), a column that is not there;
            in a step, one that is not as long as the batch, or labels that are not one class a sample.
        UnknownName: At `bind`, for a teacher or a class that does not exist; in a step, for a teacher in a column.
        RecipeError: At `bind`: samples go by their class, and no training sample has a label.

    Example:
        >>> from tutelage.ledger import Batch
        >>> rows = (Row("base"), Row("logits", "birds"), Row("logits", "fish"))
        >>> gate = Route({"owl": "birds", "eel": "fish", "duck": ["birds", "fish"]})
        >>> gate.bind(rows, Spec(call=None, taps={}, classes=("owl", "duck", "eel")))
        >>> label = torch.tensor([0, 1, 2])
        >>> batch = Batch(label, label, label, label, torch.ones(3, dtype=torch.bool))
        >>> gate(Ledger(rows, torch.ones(3, 3)), Lesson(batch, {}, {}, {}))
        tensor([[1., 1., 1.],
                [1., 1., 0.],
                [0., 1., 1.]])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    per_sample: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    table: Tensor

    def __init__(self, to: Mapping[Any, Names] | None = None, *, by: str = CLASS, otherwise: Names = ()) -> None:
        super().__init__()
        if to is None and by == CLASS:
            raise InputError(
                "Route: expected `to`, class -> teacher, where samples go by their class; found none. Give it, or name "
                "a column of the data that holds names of teachers (`by`)."
            )
        self.teachers_of = None if to is None else {str(value): _several(names) for value, names in to.items()}
        self.by = by
        self.otherwise = _several(otherwise)
        self.needs_labels = by == CLASS  # type: ignore[misc]
        self._teachers: tuple[str, ...] = ()
        self._batchwise: frozenset[str] = frozenset()
        self.register_buffer("table", torch.zeros(0, 0), persistent=False)

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Check the names of teachers and classes."""
        super().bind(rows, spec)
        self._teachers = tuple(dict.fromkeys(row.teacher for row in rows if row.teacher is not None))
        self._batchwise = spec.batchwise
        for names in (*(self.teachers_of or {}).values(), self.otherwise):
            self._heard(names, "")
        if self.by == CLASS:
            table = [self.otherwise] * (len(spec.classes) + 1)  # the last is for samples without a label
            for value, names in (self.teachers_of or {}).items():
                table[_class(value, spec.classes)] = names
            self.table = torch.tensor([self._heard(names, "") for names in table], device=self.table.device)
        elif spec.extras is not None:
            self._find_column(spec.extras)

    @torch.no_grad()
    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """1 where a teacher is named and 0 where not, ``[K, B]``; shares in between for mixed labels."""
        heard = self._by_class(lesson) if self.by == CLASS else self._by_column(lesson)
        weights = torch.ones_like(ledger.losses)
        for k, row in enumerate(ledger.rows):
            if row.teacher is not None:
                weights[k] = heard[:, self._teachers.index(row.teacher)].to(weights)
        return whole(weights, ledger.rows, self._batchwise)

    def _by_class(self, lesson: Lesson) -> Tensor:
        """Whether each teacher is named for the class of each sample, ``[B, T]``."""
        target, classes = lesson.batch.target, len(self.table) - 1
        known = lesson.batch.labelled[:, None]
        if target.is_floating_point() and target.shape == (len(target), classes):
            return torch.where(known, target.to(self.table) @ self.table[:-1], self.table[-1])
        if target.is_floating_point() or target.ndim != 1:
            raise InputError(
                f"Route: expected one class a sample, [B], or probabilities of {classes} classes; found labels "
                f"{list(target.shape)}. Name a column of the data instead (`by`)."
            )
        named = known[:, 0] & (target >= 0) & (target < classes)
        return self.table[torch.where(named, target, classes)]

    def _by_column(self, lesson: Lesson) -> Tensor:
        """Whether each teacher is named in the column, ``[B, T]``."""
        extras, samples = lesson.batch.extras, len(lesson.batch)
        self._find_column(extras)
        column = extras[self.by]
        values = column.tolist() if isinstance(column, Tensor) else list(column)
        if len(values) != samples:
            raise InputError(
                f"Route: expected one value a sample in column {self.by!r}, {samples}; found {len(values)}."
            )
        heard = [self._heard(self._named(value), f"column {self.by!r}, sample {b}: ") for b, value in enumerate(values)]
        return torch.tensor(heard, dtype=torch.float32, device=lesson.batch.index.device).reshape(samples, -1)

    def _find_column(self, extras: Collection[str]) -> None:
        """Refuse batches without the column."""
        if self.by not in extras:
            raise InputError(
                f"Route: expected a column {self.by!r} in the extras of the batch; found "
                f"{', '.join(map(repr, sorted(extras))) or 'none'}. Let the data set give it with each sample."
            )

    def _named(self, value: Any) -> tuple[str, ...]:
        """The teachers that one value of a column stands for."""
        if value is None:
            return self.otherwise
        if not isinstance(value, str) and isinstance(value, Sequence):
            return tuple(name for each in value for name in self._named(each))
        return (str(value),) if self.teachers_of is None else self.teachers_of.get(str(value), self.otherwise)

    def _heard(self, names: Sequence[str], where: str) -> list[float]:
        """1 for each teacher that is named, 0 for the others."""
        for name in names:
            if name not in self._teachers:
                close = close_names(name, self._teachers) or "there is none"
                raise UnknownName(f"Route: {where}no path hears a teacher {name!r}; {close}.")
        return [float(teacher in names) for teacher in self._teachers]


def _several(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _class(value: str, classes: Sequence[str]) -> int:
    """The number of a class, from its name or number."""
    if value in classes:
        return classes.index(value)
    if value.isdecimal() and int(value) < len(classes):
        return int(value)
    raise UnknownName(f"Route: there is no class {value!r}; {close_names(value, classes) or 'the task has none'}.")
