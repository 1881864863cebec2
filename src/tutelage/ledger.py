"""What one step knows: records that move one way, from the batch to the loss.

`Batch` is what the step is about, `Lesson` what everybody said, `Ledger` what each path and
teacher thinks of it (one row each, one column per sample), `Step` the outcome. `Spec` is what
a part may know before the first step.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Outputs = Mapping[str, Tensor]
"""What one model said: tap name -> tensor ``[B, ...]``; ``""`` is the model's own output."""

Tap = str | tuple[str, ...]
"""Where a path reads a model: one tap, or several that go to its loss together."""

Said = Tensor | tuple[Tensor, ...]
"""What a model said at a `Tap`: one tensor, or a tuple in the order of the taps."""

Shape = tuple[int, ...]
"""Shape of one sample, without the batch."""

BASE = "base"
"""The path name of rows that come from the task itself, without a teacher."""


@dataclass(frozen=True)
class Row:
    """One line of the ledger: a path, and the teacher it listens to (none for the task's own loss).

    Example:
        >>> Row("logits", "big").name, Row("base").name
        ('logits/big', 'base')
    """

    path: str
    teacher: str | None = None

    @property
    def name(self) -> str:
        """``path/teacher``, or the path alone where there is no teacher."""
        return self.path if self.teacher is None else f"{self.path}/{self.teacher}"


@dataclass(frozen=True)
class Batch:
    """What one step is about.

    Args:
        inputs: What all models share: augmented, not normalised. Pictures: float ``[B, C, H, W]`` in [0, 1].
        target: The truth, ``[B, ...]``; meaningless where not `labelled`.
        index: Number of each sample in its data set, int64 ``[B]``: the same in every epoch.
        view: Number of the augmented view of each sample, int64 ``[B]``; inputs are a function of (index, view).
        labelled: Whether the truth is known, bool ``[B]``.
        extras: Whatever else a task needs, each with one entry a sample; ``mask`` says where a prediction counts,
            ``element_weight`` how much.
    """

    inputs: Tensor
    target: Tensor
    index: Tensor
    view: Tensor
    labelled: Tensor
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor changed, those among the extras, too."""
        fields = {name: change(value) for name, value in self.__dict__.items() if isinstance(value, Tensor)}
        extras = {name: change(value) if isinstance(value, Tensor) else value for name, value in self.extras.items()}
        return Batch(**fields, extras=extras)


@dataclass(frozen=True)
class Lesson:
    """What everybody said about one batch.

    Args:
        batch: The batch.
        student: The student's taps, with gradient.
        teachers: Each teacher's taps, without gradient.
        adapted: Row name -> the student's tap after the row's connector, with gradient; a tuple where the row's
            path reads several taps.
    """

    batch: Batch
    student: Outputs
    teachers: Mapping[str, Outputs]
    adapted: Mapping[str, Said]


@dataclass(frozen=True)
class Ledger:
    """One row per path and teacher, one column per sample.

    Args:
        rows: The K rows, in a fixed order; the task's own rows come first.
        losses: Raw losses with gradient, ``[K, B]``.
        each: The same rows one by one, where they are known: a gradient of one does not pass through the others.
    """

    rows: tuple[Row, ...]
    losses: Tensor
    each: tuple[Tensor, ...] = ()

    def row(self, k: int) -> Tensor:
        """Row k alone, ``[B]``: for rules that differentiate the rows one by one."""
        return self.each[k] if self.each else self.losses[k]

    def softmax(self, scores: Tensor, *, within: str = "path") -> Tensor:
        """Weights from scores, normalised over the rows that compete.

        Args:
            scores: ``[K, 1]`` or ``[K, B]``; larger is better. ``-inf`` gives weight 0.
            within: ``"path"``: the teachers of one path compete and their weights sum to 1.
                ``"teacher"``: the paths of one teacher compete.

        Returns:
            Weights shaped like `scores`; rows of the task itself have weight 1.

        Raises:
            ValueError: `within` is neither of the two.

        Example:
            >>> rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
            >>> Ledger(rows, torch.zeros(3, 1)).softmax(torch.zeros(3, 1)).flatten()
            tensor([1.0000, 0.5000, 0.5000])
        """
        if within not in ("path", "teacher"):
            raise ValueError(f"softmax: expected within='path' or 'teacher', found {within!r}.")
        weights = torch.ones_like(scores)
        groups: dict[str, list[int]] = {}
        for k, row in enumerate(self.rows):
            if row.teacher is not None:
                groups.setdefault(row.path if within == "path" else row.teacher, []).append(k)
        for members in groups.values():
            weights[members] = scores[members].softmax(dim=0).nan_to_num(0.0)
        return weights

    def dense(self) -> tuple[tuple[str, ...], tuple[str, ...], Tensor]:
        """The ledger as a cube, for reports.

        Returns:
            Path names (P), teacher names (T), and losses ``[P, T, B]`` without gradient, NaN where a
            path does not hear a teacher. The task's own rows are left out.
        """
        taught = [row for row in self.rows if row.teacher is not None]
        paths = tuple(dict.fromkeys(row.path for row in taught))
        teachers = tuple(dict.fromkeys(row.teacher for row in taught if row.teacher is not None))
        cube = self.losses.new_full((len(paths), len(teachers), self.losses.shape[1]), torch.nan)
        for row, losses in zip(self.rows, self.losses.detach(), strict=True):
            if row.teacher is not None:
                cube[paths.index(row.path), teachers.index(row.teacher)] = losses
        return paths, teachers, cube


@dataclass(frozen=True)
class Step:
    """The outcome of one step.

    Args:
        loss: The scalar to call ``backward()`` on.
        ledger: The raw losses.
        weights: What each was multiplied by, ``[K, 1]`` or ``[K, B]``, without gradient.
        lesson: What everybody said.
    """

    loss: Tensor
    ledger: Ledger
    weights: Tensor
    lesson: Lesson


Probe = Callable[..., Ledger]
"""``probe(batch, params=None) -> Ledger``: what a weighting may ask after a step."""


@dataclass(frozen=True)
class Spec:
    """What a part may know when it is built, before the first step.

    Args:
        call: How to run a model on a batch, `Task.call`.
        taps: Model name (``"student"`` and the teachers') -> the taps that will be read.
        shapes: Model name -> tap -> shape of one sample, without the batch. Empty without a probe forward.
        samples: Size of the training set, one more than the largest index; None if unknown.
        classes: Names of the classes; empty if the task has none.
        head: How the part of a network is found that losses may hand features on to, `Task.head`. Where there is none,
            it is the linear layer with a row for each of the classes.
        heads: Teacher name -> that part: its classifier, from the vector before it to the logits, or what a task has.
        student: The model that is trained; its parameters are for rules over gradients.
        reads: Path name -> where it reads the student.
        hears: Path name -> where it reads each of its teachers, by name.
        responses: Paths whose student tap is the model's own output, or one at which it answers.
        batchwise: Paths whose loss is one number for the whole batch, expanded to all samples.
        elementwise: Paths on the student's output whose loss takes an ``element_weight``.
        labelled: Whether any training sample has a label.
        doubt: How little an answer fits the truth where that is no class, `Task.doubt`; None if that is not known.
        features: How large the default weighting makes paths on features, `Task.features`.
        held_out: Whether samples are held out of training for weightings to look at.
        extras: Names of what batches have among their extras, as the probe batch has them; None without one.
        fingerprints: Of the data, the preprocessing and the views.
    """

    call: Callable[[nn.Module, Batch], Tensor]
    taps: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, Mapping[str, Shape]] = field(default_factory=dict)
    samples: int | None = None
    classes: tuple[str, ...] = ()
    head: Callable[[nn.Module], nn.Module | None] | None = None
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    student: nn.Module | None = None
    reads: Mapping[str, Tap] = field(default_factory=dict)
    hears: Mapping[str, Mapping[str, Tap]] = field(default_factory=dict)
    responses: frozenset[str] = frozenset()
    batchwise: frozenset[str] = frozenset()
    elementwise: frozenset[str] = frozenset()
    labelled: bool = True
    doubt: Callable[[Tensor, Batch], Tensor | None] | None = None
    features: float = 0.5
    held_out: bool = False
    extras: frozenset[str] | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    def shape(self, model: str, tap: Tap) -> Shape | tuple[Shape, ...] | None:
        """Shape of one sample at a tap, a tuple of them at several; None where no probe forward was made."""
        known = self.shapes.get(model, {})
        if isinstance(tap, str):
            return known.get(tap)
        return tuple(known[name] for name in tap) if known else None


def only_finite(said: Outputs, answers: Collection[str]) -> tuple[dict[str, Tensor], Tensor]:
    """What a teacher said, with 0 for all of a sample where any of it is not finite, and which samples those are.

    A weight of 0 keeps such a sample's loss out of the sum, but not its derivative, which is not a number, out of the
    gradient. An answer may be minus infinity: a class that is ruled out.

    Args:
        said: Tap name -> ``[B, ...]``, all of one teacher.
        answers: Taps at which it answers.

    Returns:
        The tensors, and bool ``[B]``.

    Example:
        >>> only_finite({"": torch.tensor([[1.0, -torch.inf], [2.0, torch.nan]])}, [""])
        ({'': tensor([[1., -inf],
                [0., 0.]])}, tensor([False,  True]))
    """
    flat = {tap: x.detach().flatten(1) if x.dim() > 1 else x.detach()[:, None] for tap, x in said.items()}
    wide = {tap: torch.promote_types(x.dtype, torch.float32) for tap, x in flat.items()}
    sound = [
        (x < torch.inf).all(1) if tap in answers else x.sum(1, dtype=wide[tap]).isfinite() for tap, x in flat.items()
    ]
    lost = ~torch.stack(sound).all(dim=0)
    if lost.device.type == "cpu" and not lost.any():  # elsewhere to ask would be to wait for the device
        return dict(said), lost
    return {tap: x.masked_fill(lost.view(-1, *[1] * (x.dim() - 1)), 0) for tap, x in said.items()}, lost
