"""Guard: shut the rows that harm the task, as seen on samples held out of training."""

from typing import ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from tutelage.errors import InputError, RecipeError
from tutelage.ledger import Ledger, Lesson, Row, Spec
from tutelage.losses.precision import widest
from tutelage.taps import whole

from .base import Weighting, row_means
from .gramian import row_gradients


class Guard(Weighting):
    """Every few steps, look at held-out samples: rows that pull against the task there are shut.

    A look takes samples that are not trained on, with labels and the teachers' answers, and compares two gradients at
    the place where a row reads the student: that of the row and that of the task. Their cosine over the batch is the
    row's alignment: above 0, a small step along the row also lowers the task's loss on samples the student has not
    learned by heart; below 0, it raises it. Each look costs one forward and one backward of the held-out batch,
    however many rows there are, since a row's own gradient ends where it reads.

    What counts is the mean of the last `memory` looks and its standard error. An open row is shut when its mean lies
    more than `doubt` standard errors below ``-margin``, a shut one is opened when it lies as far above 0. What
    changed is told in `news`.

    A connector or head that has learned nothing yet points anywhere, often against the task, and for the first few
    steps it points to the same place. So of rows that do not read the student's answers the early looks do not count:
    their first three are `every` steps apart. Where such a row is shut, its own layers go on learning from it, without
    the student, so that it can come to help.

    What this does not see stays open: a row that reads a tensor which the network overwrites in place, and a row that
    says nothing of use but nothing against the task either, whose alignment is about 0. That such a row is not too
    large is the scale's business.

    Args:
        every: Steps between looks, at least 1. Before that, looks at the rows that read the student's answers follow
            steps 1, 2, 4, 8 …
        memory: How many looks count, at least 3: with fewer nothing is decided.
        doubt: Standard errors, 0 or more.
        margin: How far below 0 an alignment is no harm yet, 0 or more. Some losses that help lie slightly below it.

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

    looks: Tensor
    size: Tensor
    shut: Tensor

    def __init__(self, *, every: int = 25, memory: int = 10, doubt: float = 2.0, margin: float = 0.05) -> None:
        super().__init__()
        if every < 1 or memory < 3 or not doubt >= 0 or not margin >= 0:
            raise InputError(
                f"Guard: expected every of at least 1, memory of at least 3, doubt and margin of 0 or more; found "
                f"{every}, {memory}, {doubt} and {margin}."
            )
        self.every = every
        self.memory = memory
        self.doubt = doubt
        self.margin = margin
        self.step = 0
        self._off: dict[str, float] | None = None
        self._news: list[str] = []
        self._places: dict[str, tuple[str, ...]] = {}
        self._answers = torch.zeros(0, dtype=torch.bool)
        self.aligned, self.pull = torch.zeros(0), torch.zeros(0)  # what the last look found
        self.register_buffer("looks", torch.zeros(memory, 0))
        self.register_buffer("size", torch.zeros(0))
        self.register_buffer("shut", torch.zeros(0, dtype=torch.bool))

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Start with all rows open and nothing seen."""
        super().bind(rows, spec)
        if not spec.held_out:
            raise RecipeError(
                "weighting: Guard looks at samples held out of training; expected some, found none. Hold some out "
                "(data.guard above 0; in your own loop, Distiller(held_out=...)), or leave it out."
            )
        # A look reads the tensor itself as well, where a row reads a copy that the network does not go on with.
        taps = {path: (tap,) if isinstance(tap, str) else tap for path, tap in spec.reads.items()}
        self._places = {path: tuple(dict.fromkeys(map(whole, those))) for path, those in taps.items()}
        self._answers = torch.tensor([row.path in spec.responses for row in rows])
        device = self.looks.device
        self.looks = torch.full((self.memory, len(rows)), torch.inf, device=device)  # not finite: nothing was seen
        self.size = torch.zeros(len(rows), device=device)
        self.shut = torch.zeros(len(rows), dtype=torch.bool, device=device)
        self.step = 0
        self._off = None

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """0 for rows that are shut, 1 for all others, ``[K, 1]``."""
        return (~self.shut).to(ledger.losses.dtype)[:, None]

    def kept_off(self) -> dict[str, float]:
        """The rows that are shut, with the size of their loss when they were."""
        if self._off is None:  # asked for at every step, and the device is not to be waited for
            known = zip(self.rows, self.shut.tolist(), self.size.tolist(), strict=True)
            self._off = {row.name: size for row, shut, size in known if shut}
        return self._off

    def after_step(self, probe: object = None) -> None:
        """Count the step."""
        self.step += 1

    def asks(self) -> int | None:
        """A look every few steps; where rows read the student's answers, also after steps 1, 2, 4, 8 …

        Harm done early costs the most.
        """
        early = self.step < self.every and self.step & (self.step - 1) == 0 and bool(self._answers.any())
        return self.step if early or self.step % self.every == 0 else None

    def hears(self, ledger: Ledger, lesson: Lesson) -> None:
        """Take note of each row's alignment, and decide."""
        self.aligned, self.pull = self.compare(ledger, lesson)
        alignment = self.aligned.nan_to_num(nan=torch.inf)
        if self.step % self.every:  # too early for what is read through layers that have learned nothing yet
            alignment = alignment.where(self._answers.to(alignment.device), torch.inf)
        self.looks = torch.cat([self.looks[1:], alignment[None].to(self.looks)])
        mean, error, seen = self._summary()
        harms = (seen >= 3) & (mean + self.doubt * error < -self.margin)
        helps = (seen >= 3) & (mean - self.doubt * error > 0)
        shut = (self.shut | harms) & ~helps
        for k in (shut != self.shut).nonzero().flatten().tolist():
            verb = "shut" if shut[k] else "opened again"
            self._news.append(
                f"{self.rows[k].name} {verb} at step {self.step}: alignment with the task on held-out samples "
                f"{float(mean[k]):+.3f} ± {float(error[k]):.3f}"
            )
        sizes, _ = row_means(ledger, shared=True)
        self.size = torch.where(shut & ~self.shut, sizes.abs().to(self.size), self.size)
        self.shut.copy_(shut)
        self._off = None

    def _summary(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, its standard error and number of what was seen of each row, ``[K]``."""
        known = self.looks.isfinite()
        seen = known.sum(dim=0)
        mean = torch.where(known, self.looks, 0.0).sum(dim=0) / seen.clamp(min=1)
        square = torch.where(known, self.looks - mean, 0.0).square().sum(dim=0)
        return mean, (square / (seen * (seen - 1)).clamp(min=1)).sqrt(), seen

    def compare(self, ledger: Ledger, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Each row's gradient and the task's, where the row reads the student.

        Returns:
            Their cosine, and the norm of the row's over that of the task's, ``[K]`` each; NaN for rows without one.
        """
        own = [k for k, row in enumerate(ledger.rows) if row.teacher is None]
        task = torch.stack([ledger.row(k).mean() for k in own]).sum()
        read = dict.fromkeys(place for places in self._places.values() for place in places)
        known = [tap for tap in read if tap in lesson.student and lesson.student[tap].requires_grad]
        found = dict(zip(known, self._gradients(task, [lesson.student[t] for t in known]), strict=True))
        sums = widest(torch.full((3, len(ledger.rows)), torch.nan, device=ledger.losses.device))
        for k, row in enumerate(ledger.rows):
            reads = [place for place in self._places.get(row.path, ()) if place in found]
            if row.teacher is None or not reads:
                continue
            pulls = torch.cat(
                [g.flatten() for g in self._gradients(ledger.row(k).mean(), [lesson.student[t] for t in reads])]
            )
            wanted = torch.cat([found[tap].flatten() for tap in reads])
            sums[:, k] = torch.stack([(pulls * wanted).sum(), pulls.square().sum(), wanted.square().sum()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        return (sums[0] / (sums[1] * sums[2]).sqrt()).float(), (sums[1] / sums[2]).sqrt().float()

    @staticmethod
    def _gradients(objective: Tensor, places: list[Tensor]) -> list[Tensor]:
        """The gradient at each place, float64 where the device has it."""
        flat = widest(row_gradients([objective], places)[0])
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
        self._off = None
