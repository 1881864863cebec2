"""Let paths fade out."""

from collections.abc import Sequence

from torch import Tensor

from tutelage.errors import InputError

from .warmup import Warmup


class Decay(Warmup):
    """A factor that stays at 1 for a while and then falls linearly to `end`.

    What is learned from teachers early may stand in the way of the labels later; the last part of a training then
    belongs to the task. The default does without: what a harmful path has done early, the rest of the training mends
    only in part (see the lab notes).

    Args:
        steps: Optimizer steps from 1 down to `end`, 0 or more; 0 is a switch.
        after: Optimizer steps before that, 0 or more.
        paths: Names of the paths or rows that fade out; None means all that have a teacher.
        end: Factor at the end, in [0, 1].

    Raises:
        InputError: A number is out of its range.
        UnknownName: At `bind`, for a name that is neither a path nor a row.

    Reference:
        Cho & Hariharan 2019, "On the Efficacy of Knowledge Distillation", arXiv:1910.01348, where the teacher is
        switched off at once.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Row, Spec
        >>> rows = (Row("base"), Row("logits", "big"))
        >>> gate = Decay(4, after=1)
        >>> gate.bind(rows, Spec(call=None, taps={}))
        >>> for _ in range(4):
        ...     gate.after_step()
        >>> gate(Ledger(rows, torch.ones(2, 1)), None).flatten()
        tensor([1.0000, 0.2500])
    """

    def __init__(self, steps: int, *, after: int = 0, paths: Sequence[str] | None = None, end: float = 0.0) -> None:
        if steps < 0 or after < 0 or not 0 <= end <= 1:
            raise InputError(
                f"Decay: expected steps and after of 0 or more and end in [0, 1]; found {steps}, {after} and {end}."
            )
        super().__init__(steps, paths=paths)
        self.after = after
        self.end = end

    def factor(self) -> Tensor:
        """That of this step, in [end, 1]."""
        gone = self.step - self.after
        done = (gone / self.steps).clamp(0.0, 1.0) if self.steps else (gone >= 0).float()
        return 1 - (1 - self.end) * done
