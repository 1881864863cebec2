"""Guard: shut the rows that harm the task, as seen on samples held out of training."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from tutelage.errors import InputError, RecipeError
from tutelage.ledger import Ledger, Lesson, Row, Spec, Tap

from .base import Weighting
from .gramian import row_gradients


class Guard(Weighting):
    """Every few steps, look at held-out samples: rows that pull against the task there are shut.

    A look takes samples that are not trained on, with labels and the teachers' answers, and compares two gradients at
    the place where a row reads the student: that of the row and that of the task. Their cosine over the batch is the
    row's alignment: above 0, a small step along the row also lowers the task's loss on samples the student has not
    learned by heart; below 0, it raises it. Each look costs one forward and one backward of the held-out batch,
    however many rows there are, since a row's own gradient ends where it reads.

    Of the last looks (about `memory` of them) mean and standard error are kept. An open row is shut when its mean lies
    more than `doubt` standard errors below 0, a shut one is opened when it lies as far above. What
    changed is told in `news`.

    What this does not see stays open: a row that reads a copy made for reading (``":pooled"``, ``":map"``), and a row
    that says nothing of use but nothing against the task either, whose alignment is about 0. That such a row is not
    too large is the scale's business.

    Args:
        every: Steps between looks, at least 1. Before that, looks follow steps 1, 2, 4, 8 …
        memory: How many looks the mean goes back, at least 2.
        doubt: Standard errors, 0 or more.

    Raises:
        InputError: A number is out of its range.
        RecipeError: At `bind`, where no samples are held out, or there are no labels.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Lesson, Row, Spec
        >>> rows = (Row("base"), Row("logits", "good"), Row("logits", "bad"))
        >>> gate = Guard(every=1)
        >>> gate.bind(rows, Spec(call=None, taps={}, reads={"logits": ""}, held_out=True))
        >>> said = torch.randn(8, 5, requires_grad=True)
        >>> task = said.square().sum(1)
        >>> good, bad = (said - 0.1).square().sum(1), -said.exp().sum(1) - task
        >>> for _ in range(3):
        ...     gate.hears(Ledger(rows, torch.stack([task, good, bad])), Lesson(None, {"": said}, {}, {}))
        >>> gate.shut.tolist()
        [False, False, True]
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    needs_labels: ClassVar[bool] = True

    mean: Tensor
    square: Tensor
    count: Tensor
    shut: Tensor

    def __init__(self, *, every: int = 25, memory: int = 10, doubt: float = 2.0) -> None:
        super().__init__()
        if every < 1 or memory < 2 or not doubt >= 0:
            raise InputError(
                f"Guard: expected every of at least 1, memory of at least 2 and doubt of 0 or more; found {every}, "
                f"{memory} and {doubt}."
            )
        self.every = every
        self.memory = memory
        self.doubt = doubt
        self.step = 0
        self._news: list[str] = []
        self._reads: Mapping[str, Tap] = {}
        for name in ("mean", "square", "count"):
            self.register_buffer(name, torch.zeros(0))
        self.register_buffer("shut", torch.zeros(0, dtype=torch.bool))

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Start with all rows open and nothing seen."""
        super().bind(rows, spec)
        if not spec.held_out:
            raise RecipeError(
                "weighting: Guard looks at samples held out of training; expected some, found none. Hold some out "
                "(data.guard above 0; in your own loop, Distiller(held_out=...)), or leave it out."
            )
        self._reads = dict(spec.reads)
        device = self.mean.device
        self.mean, self.square, self.count = (torch.zeros(len(rows), device=device) for _ in range(3))
        self.shut = torch.zeros(len(rows), dtype=torch.bool, device=device)
        self.step = 0

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """0 for rows that are shut, 1 for all others, ``[K, 1]``."""
        return (~self.shut).to(ledger.losses.dtype)[:, None]

    def after_step(self, probe: object = None) -> None:
        """Count the step."""
        self.step += 1

    def asks(self) -> int | None:
        """A look every few steps, and at the beginning after steps 1, 2, 4, 8 …: harm done early costs the most."""
        early = self.step < self.every and self.step & (self.step - 1) == 0
        return self.step if early or self.step % self.every == 0 else None

    def hears(self, ledger: Ledger, lesson: Lesson) -> None:
        """Take note of each row's alignment, and decide."""
        alignment = self.alignment(ledger, lesson)
        known = alignment.isfinite()
        alignment = alignment.nan_to_num(nan=0.0)
        self.count += known
        share = torch.where(known, 1 / self.count.clamp(min=1, max=self.memory), 0.0)
        self.mean.lerp_(alignment, share)
        self.square.lerp_(alignment**2, share)
        seen = self.count.clamp(max=self.memory)
        error = ((self.square - self.mean**2).clamp(min=0) / (seen - 1).clamp(min=1)).sqrt()
        enough = self.count >= 3
        harms = enough & (self.mean + self.doubt * error < 0)
        helps = enough & (self.mean - self.doubt * error > 0)
        shut = (self.shut | harms) & ~helps
        for k in (shut != self.shut).nonzero().flatten().tolist():
            verb = "shut" if shut[k] else "opened again"
            self._news.append(
                f"{self.rows[k].name} {verb} at step {self.step}: alignment with the task on held-out samples "
                f"{float(self.mean[k]):+.3f} ± {float(error[k]):.3f}"
            )
        self.shut.copy_(shut)

    def alignment(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """Cosine of each row's gradient and the task's where the row reads, ``[K]``; NaN for those without one."""
        own = [k for k, row in enumerate(ledger.rows) if row.teacher is None]
        task = torch.stack([ledger.row(k).mean() for k in own]).sum()
        places = {path: (tap,) if isinstance(tap, str) else tap for path, tap in self._reads.items()}
        taps = [
            tap for tap in dict.fromkeys(tap for those in places.values() for tap in those) if tap in lesson.student
        ]
        found = dict(zip(taps, self._gradients(task, [lesson.student[tap] for tap in taps]), strict=True))
        sums = torch.full((3, len(ledger.rows)), torch.nan, dtype=torch.float64, device=ledger.losses.device)
        for k, row in enumerate(ledger.rows):
            reads = [tap for tap in places.get(row.path, ()) if tap in found]
            if row.teacher is None or not reads:
                continue
            pulls = torch.cat(
                [g.flatten() for g in self._gradients(ledger.row(k).mean(), [lesson.student[t] for t in reads])]
            )
            wanted = torch.cat([found[tap].flatten() for tap in reads])
            sums[:, k] = torch.stack([(pulls * wanted).sum(), pulls.square().sum(), wanted.square().sum()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        return (sums[0] / (sums[1] * sums[2]).sqrt()).float()

    @staticmethod
    def _gradients(objective: Tensor, places: list[Tensor]) -> list[Tensor]:
        """The gradient at each place, float64."""
        flat = row_gradients([objective], places)[0].double()
        return list(torch.split(flat, [place.numel() for place in places]))

    def news(self) -> list[str]:
        """Rows that were shut or opened since this was last asked for."""
        told, self._news = self._news, []
        return told

    def get_extra_state(self) -> Tensor:
        """The number of steps."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a number of steps."""
        self.step = int(state)
