"""Shares of the teachers, learned for each sample from what the student makes of it."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError, RecipeError
from tutelage.ledger import Ledger, Lesson, Row, Shape, Spec

from .base import Weighting, whole


class Learned(Weighting):
    """Share each path among its teachers by learned factors that meet what the student makes of a sample.

    Each teacher has a vector ``f_k``, and all share a direction ``v``. With ``x`` the student's answer or feature for
    a sample, of maps and tokens the largest entry of each channel, the shares are the softmax over the teachers of a
    path of ``sum(v * f_k * x)``. They sum to 1. No label is needed.

    Factors learn together with the student, from the losses of the rows alone: a sample's share moves to the teacher
    whose row is smallest, the one the student agrees with already, and nothing asks whether that teacher is right. Put
    `Trust` or `Reliability` beside it where there are labels. Drawn as published, shares start near 1 and 0 where
    features are large or wide; with `init` of 0.1 they start nearly equal.

    One teacher alone has weight 1. Where the loss of a path is one number for the whole batch, each teacher gets the
    mean of its shares.

    Args:
        at: The tap of the student that is read; ``""`` is its answer.
        init: Deviation of the normal draws that factors and direction start with, above 0.
        decay: Added to the loss: this times the sum of the squares of factors and direction, 0 or more. It pulls the
            shares towards equal ones.
        through_weights: Let gradient flow through the shares into the student.

    Raises:
        InputError: `init` or `decay` is out of its range.
        RecipeError: At `bind`: the width of what is read is not known.

    Reference:
        Liu, Zhang, Wang 2020, "Adaptive multi-teacher multi-level knowledge distillation", arXiv:2103.04062, its
        instance-level weights. Deviations: the student's answer is read unless `at` names its last map, as there; rows
        are weighed, where the paper compares the student with the weighted mixture of the teachers' probabilities,
        which has the same gradient in the student and another one in the factors; factors learn to the end, not in a
        first stage alone. Published code lets gradient flow through the weights into the student (`through_weights`),
        and has a `decay` of 0.1 in one of its stages.

    Example:
        >>> rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
        >>> gate = Learned()
        >>> gate.bind(rows, Spec(call=None, taps={}, classes=("x", "y")))
        >>> _ = nn.init.ones_(gate.direction), gate.factor.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> said = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> gate(Ledger(rows, torch.ones(3, 2)), Lesson(None, {"": said}, {}, {})).detach()
        tensor([[1.0000, 1.0000],
                [0.8808, 0.5000],
                [0.1192, 0.5000]])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    per_sample: ClassVar[bool] = True
    averages: ClassVar[bool] = True

    def __init__(self, *, at: str = "", init: float = 1.0, decay: float = 0.0, through_weights: bool = False) -> None:
        super().__init__()
        if not (0 < init < math.inf and 0 <= decay < math.inf):
            raise InputError(f"Learned: expected init above 0 and decay of 0 or more; found {init} and {decay}.")
        self.at = at
        self.init = init
        self.decay = decay
        self.through_weights = through_weights
        self.factor = nn.Parameter(torch.zeros(0, 0))
        self.direction = nn.Parameter(torch.zeros(0))
        self._teachers: tuple[str, ...] = ()
        self._batchwise: frozenset[str] = frozenset()

    def taps(self) -> tuple[str, ...]:
        """The tap that is read, if it is not the answer."""
        return (self.at,) if self.at else ()

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Draw a factor for each teacher, and the direction."""
        super().bind(rows, spec)
        shape = spec.shape("student", self.at)
        width = _width(shape) if shape else len(spec.classes) if self.at == "" else 0
        if not width:
            raise RecipeError(
                f"Learned: expected to know how wide the student is at {self.at!r}; found no shape. "
                "Give the Distiller an `example`."
            )
        self._teachers = tuple(dict.fromkeys(row.teacher for row in rows if row.teacher is not None))
        self._batchwise = spec.batchwise
        draws = self.init * torch.randn(len(self._teachers) + 1, width)
        self.factor = nn.Parameter(draws[1:].to(self.factor.device))
        self.direction = nn.Parameter(draws[0].to(self.factor.device))

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """Shares in [0, 1], ``[K, B]``, with gradient into the factors; they sum to 1 over the teachers of a path."""
        said = lesson.student[self.at]
        made = _strongest(said if self.through_weights else said.detach()).to(self.factor.dtype)
        # What is not finite says nothing, and beyond 1e4 a softmax knows no difference.
        made = made.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(-1e4, 1e4)
        wanted = ((made * self.direction) @ self.factor.T).clamp(-1e4, 1e4)
        own = torch.zeros_like(made[:, 0])
        at = {teacher: wanted[:, k] for k, teacher in enumerate(self._teachers)}
        shares = ledger.softmax(torch.stack([at[row.teacher] if row.teacher else own for row in ledger.rows]))
        return whole(shares.to(ledger.losses.dtype), ledger.rows, self._batchwise)

    def penalty(self) -> Tensor | float:
        """What keeps factors and direction small."""
        return self.decay * (self.factor.square().sum() + self.direction.square().sum())


def _width(shape: Shape | tuple[Shape, ...]) -> int:
    """Channels of one sample: last of tokens ``[T, D]``, first of everything else."""
    width = shape[-1] if len(shape) == 2 else shape[0]
    return width if isinstance(width, int) else 0


def _strongest(said: Tensor) -> Tensor:
    """The largest entry of each channel, ``[B, D]``: channels last in ``[B, T, D]``, second elsewhere."""
    return said.amax(dim=1) if said.ndim == 3 else said.flatten(2).amax(dim=2) if said.ndim > 3 else said
