"""Distiller: a student with its teachers, paths, weighting and task. A batch goes in, a `Step` comes out."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import RecipeError
from .ledger import Batch, Ledger, Lesson, Outputs, Row, Spec, Step, only_finite
from .path import Path, tap_names
from .taps import Taps, evaluating, whole
from .tasks.base import Task
from .teachers import Frozen
from .teachers.base import Teacher
from .weighting import Auto
from .weighting.base import Weighting, silence

STUDENT = "student"


class Distiller(nn.Module):
    """A student with its teachers, the paths between them, and what each path is worth.

    Plain PyTorch: it works in any training loop. Its parameters are the student's, the connectors', those of losses
    that learn and those of the weighting; a frozen teacher is neither in `parameters()` nor in `state_dict()`.

    Args:
        student: The model to train.
        teachers: Teachers by name; a network is heard as `Frozen`.
        paths: Paths by name, of which copies are made; none at all makes this plain training.
        task: How to run a model on a batch, and its own loss.
        weighting: What each row of the ledger is worth; `Auto()` if None.
        example: A batch for one probe forward, which tells connectors, losses and weightings the shapes they meet.
            Needed only where such a part was built without sizes.
        samples: Size of the training set, one more than the largest index; for losses that remember each sample.
        labelled: Whether any training sample has a label; weightings that need one are refused otherwise.
        held_out: Gives the batch of a number, 0 or more, of labelled samples that are not trained on, for weightings
            that look at such; None: there are none.
        fingerprints: Of data, preprocessing and views; cached teachers compare them.
        compile: Train the student through `torch.compile`. Evaluation, and what is shipped, is the student as it is.

    Raises:
        TapNotFound: A path names a module that a model does not have.
        RecipeError: Parts that do not fit together.

    Example:
        >>> import torch, tutelage as tu
        >>> distiller = tu.Distiller(
        ...     nn.Sequential(nn.Flatten(), nn.Linear(12, 3)),
        ...     teachers={"big": nn.Sequential(nn.Flatten(), nn.Linear(12, 3))},
        ...     paths={"logits": tu.Path(tu.losses.kl)},
        ...     task=tu.tasks.Classification(3),
        ... )
        >>> step = distiller((torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1])))
        >>> [row.name for row in step.ledger.rows], step.ledger.losses.shape
        (['base', 'logits/big'], torch.Size([2, 5]))
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        teachers: Mapping[str, Teacher | nn.Module],
        paths: Mapping[str, Path],
        task: Task,
        weighting: Weighting | None = None,
        example: Batch | None = None,
        samples: int | None = None,
        labelled: bool = True,
        held_out: Callable[[int], Batch] | None = None,
        fingerprints: Mapping[str, str] | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        heard = {name: x if isinstance(x, Teacher) else Frozen(x) for name, x in teachers.items()}
        paths = {name: path.unbound() for name, path in paths.items()}
        self.student = student
        if compile:
            # What was compiled for another model of the same class would be taken for this one, without our taps.
            torch.compiler.reset()
        # In the instance's dict: the student would be its own submodule twice.
        self.__dict__["trained"] = torch.compile(student, dynamic=False) if compile else student
        self.teachers = _named("teacher", heard)
        self.paths = _named("path", paths)
        self.task = task
        self.held_out = held_out
        self.weighting = Auto() if weighting is None else weighting
        self.rows = self._rows()
        if compile and self.weighting.taps():
            raise RecipeError(
                f"weighting: gradients at {', '.join(map(repr, self.weighting.taps()))} cannot be had from a compiled "
                "student. Train without compile, or take gradients with respect to parameters."
            )
        self.spec = Spec(
            call=task.call,
            taps=self._tap_names(),
            samples=samples,
            classes=task.classes,
            head=task.head,
            student=student,
            reads={name: path.student_tap for name, path in paths.items()},
            hears={
                name: {row.teacher: path.teacher_tap(row.teacher) for row in path.rows(name, heard) if row.teacher}
                for name, path in paths.items()
            },
            responses=frozenset(name for name, path in paths.items() if path.student_tap in ("", *task.answers)),
            batchwise=frozenset(name for name, path in paths.items() if path.batchwise),
            elementwise=frozenset(name for name, path in paths.items() if path.elementwise),
            labelled=labelled,
            doubt=task.doubt,
            features=task.features,
            held_out=held_out is not None,
            extras=None if example is None else frozenset(example.extras),
            fingerprints=fingerprints or {},
        )
        taps = self.spec.taps[STUDENT]
        self._taps = Taps(student, taps, owner=STUDENT)
        self._look_taps = Taps(student, (*taps, *map(whole, taps)), owner=STUDENT)
        for name, teacher in heard.items():
            teacher.bind(self.spec, name)
        heads = {name: teacher.head for name, teacher in heard.items() if teacher.head is not None}
        self.spec = dataclasses.replace(self.spec, heads=heads, shapes={} if example is None else self._probe(example))
        for name, path in paths.items():
            path.bind(name, heard, self.spec)
        learners = {name: path.learners() for name, path in paths.items()}
        self._learned = frozenset(Row(name, teacher).name for name in learners for teacher in learners[name])
        self.weighting.bind(self.rows, self.spec)

    def attend(self, batch: Batch) -> Outputs:
        """Run the student once; its taps are read on the way."""
        network = self.__dict__["trained"] if self.student.training else self.student
        return self._taps(lambda: self.task.call(network, batch))

    def learn(self, batch: Batch, peers: Mapping[str, Outputs], me: str = STUDENT) -> Step:
        """Hear the teachers, fill the ledger, weigh it.

        Args:
            batch: The batch all attended to.
            peers: What every pupil said, by name; the student's own under `me`.
            me: This student's name among them.
        """
        apart = self.weighting.kept_off()
        ledger, lesson = self._ledger(batch, peers, me, apart)
        weights = silence(self.weighting(ledger, lesson), ledger)
        # A row that is switched off must not reach the student even where its loss is not finite.
        worth = torch.where(weights == 0, 0.0, weights * ledger.losses)
        loss = worth.sum(dim=0).mean() + self.weighting.penalty()
        loss = loss + _relative(ledger, {row: size for row, size in apart.items() if row in self._learned})
        return Step(loss, ledger, weights.detach(), lesson)

    def _ledger(
        self, batch: Batch, peers: Mapping[str, Outputs], me: str = STUDENT, apart: Collection[str] = ()
    ) -> tuple[Ledger, Lesson]:
        """What everybody says, and what each path and teacher thinks of it."""
        student = peers[me]
        teachers = {name: teacher(batch, peers) for name, teacher in self.teachers.items()}
        base = self.task.base_loss(student, batch)
        losses, adapted = [base[name] for name in self.task.base_rows], {}
        answers = ("", *self.task.answers)
        sound = {name: only_finite(said, answers) for name, said in teachers.items() if said}
        heard = {name: said for name, (said, _) in sound.items()}
        elements = self.weighting.elements(Lesson(batch, student, teachers, {}))
        # Weightings compare answers as they are; of all else no second copy is kept.
        teachers |= {name: {**said, **_answers(teachers[name], answers)} for name, said in heard.items()}
        for name, path in self.paths.items():
            for teacher, (loss, seen) in path(student, heard, batch, self.spec.heads, elements, apart).items():
                lost = sound[teacher][1]
                losses.append(torch.where(lost.any() if path.batchwise else lost, torch.nan, loss))
                adapted[Row(name, teacher).name] = seen
        losses = [loss.float() for loss in losses]
        ledger = Ledger(self.rows, torch.stack(losses), tuple(losses))
        return ledger, Lesson(batch, student, teachers, adapted)

    def forward(self, batch: Any) -> Step:
        """One step alone: attend, then learn.

        Args:
            batch: A `Batch`, or what `Task.unpack` makes one of, such as ``(inputs, target)``.
        """
        batch = self.task.unpack(batch)
        return self.learn(batch, {STUDENT: self.attend(batch)})

    @torch.no_grad()
    def before_step(self) -> None:
        """To be called between backward and the optimizer's step: paths' own layers move no farther than the student.

        A weight on a path also multiplies what its connectors and heads learn from. Where it is large they would leave
        every bound, and take the student with them. So their gradient, all together, is scaled down to the norm of the
        student's.
        """
        own = [p.grad for p in self.paths.parameters() if p.grad is not None]
        if not own:
            return
        student = nn.utils.get_total_norm([p.grad for p in self.student.parameters() if p.grad is not None])
        share = (student / nn.utils.get_total_norm(own).clamp(min=1e-12)).clamp(max=1.0)
        share = torch.where(student > 0, share, 1.0)
        for grad in own:
            grad.mul_(share)

    def after_step(self, batch: Batch | None = None) -> None:
        """To be called once after the optimizer's step: memories are written, weightings move on."""
        for path in self._all_paths():
            path.commit()
        self.weighting.after_step(self.measure)
        if self.held_out is not None and (number := self.weighting.asks()) is not None:
            device = next(self.student.parameters()).device
            self.weighting.hears(*self.look(self.held_out(number).each(lambda x: x.to(device))))

    @torch.enable_grad()
    def look(self, batch: Batch) -> tuple[Ledger, Lesson]:
        """What everybody says of held-out samples, with gradient; in eval mode where the task's loss can be had so.

        What a tap averages, turns or squares is read itself as well (`taps.whole`).
        """
        with evaluating(self):
            self.student.train(not self.task.in_eval)
            with _statistics_kept(self):
                said = self._look_taps(lambda: self.task.call(self.student, batch))
                return self._ledger(batch, {STUDENT: said})

    @torch.no_grad()
    def measure(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Ledger:
        """The raw ledger of a batch, outside training; with other student parameters if given.

        Batch norms go by this batch where they train, and their statistics stay what they were.
        """
        if params is None:
            with _statistics_kept(self):
                return self.forward(batch).ledger
        kept = {name: value.detach().clone() for name, value in self.student.named_parameters()}
        try:
            self.student.load_state_dict(dict(params), strict=False)
            with _statistics_kept(self):
                return self.forward(batch).ledger
        finally:
            self.student.load_state_dict(kept, strict=False)

    def _all_paths(self) -> Iterator[Path]:
        for path in self.paths.values():
            assert isinstance(path, Path)
            yield path

    def _rows(self) -> tuple[Row, ...]:
        rows = [Row(name) for name in self.task.base_rows]
        for name, path in self.paths.items():
            assert isinstance(path, Path)
            if name in self.task.base_rows or "/" in name:
                raise RecipeError(
                    f"path {name!r}: the name is taken by the task, or holds a '/'. Give it another name."
                )
            rows.extend(path.rows(name, self.teachers))
        return tuple(rows)

    def _tap_names(self) -> dict[str, tuple[str, ...]]:
        names: dict[str, dict[str, None]] = {STUDENT: {}, **{teacher: {} for teacher in self.teachers}}
        names[STUDENT] |= dict.fromkeys(self.weighting.taps())
        for path in self._all_paths():
            names[STUDENT] |= dict.fromkeys(tap_names(path.student_tap))
            for row in path.rows("", self.teachers):
                assert row.teacher is not None
                names[row.teacher] |= dict.fromkeys(tap_names(path.teacher_tap(row.teacher)))
        return {model: tuple(tap for tap in taps if tap) for model, taps in names.items()}

    @torch.no_grad()
    def _probe(self, batch: Batch) -> dict[str, dict[str, tuple[int, ...]]]:
        with evaluating(self.student):
            outputs = {STUDENT: self.attend(batch)}
        outputs |= {name: teacher(batch, outputs) for name, teacher in self.teachers.items()}
        return {model: {tap: tuple(x.shape[1:]) for tap, x in said.items()} for model, said in outputs.items()}


def _named(kind: str, parts: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """The parts under their names, of which PyTorch does not take all."""
    named = nn.ModuleDict()
    for name, part in parts.items():
        try:
            named[name] = part
        except KeyError as error:
            raise RecipeError(
                f"{kind} {name!r}: expected a name without dots that is no method of PyTorch's modules; "
                f"found {error.args[0]}. Give it another name."
            ) from error
    return named


def _answers(said: Outputs, taps: Collection[str]) -> Outputs:
    return {tap: said[tap] for tap in taps if tap in said}


def _relative(ledger: Ledger, sizes: Mapping[str, float]) -> Tensor | float:
    """Losses of rows kept off the student, over their size then or now, if larger: their own layers learn from them."""
    total: Tensor | float = 0.0
    for k, row in enumerate(ledger.rows):
        if row.name in sizes:
            heard = ledger.row(k).detach().isfinite()
            loss = torch.where(heard, ledger.row(k), 0.0).sum() / heard.sum().clamp(min=1)
            size = loss.detach().abs().clamp(min=max(sizes[row.name], 1e-12))
            # What is left out is made safe first: its derivative would come back as 0 times infinity.
            total = total + torch.where(size.isfinite(), loss / torch.where(size.isfinite(), size, 1.0), 0.0)
    return total


@contextlib.contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norms that train give what they would, and do not move their running statistics."""
    norms = [x for x in model.modules() if isinstance(x, _BatchNorm) and x.training and x.track_running_stats]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
