"""Shares of the teachers, learned by what a step of distillation does to samples the student gets wrong."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from tutelage.errors import InputError, RecipeError
from tutelage.ledger import Batch, Ledger, Lesson, Probe, Row, Spec, Tap

from .adam import Adam
from .base import Weighting, by_path, whole
from .by_gradient import keep_graphs_of_compiled_models
from .gramian import row_gradients, several_processes
from .trust import label_doubts

REACH = 0.01
"""How far the student is moved, in parameter space, to see which entries of the ledger rise."""

FIELDS = ("inputs", "target", "index", "view", "labelled")


class Meta(Weighting):
    """Share each path among its teachers by small networks that learn which shares help with hard samples.

    Per path and sample, a network of two layers reads what the teachers and the student said, and gives shares that sum
    to 1. It learns from a look ahead, every few steps: from where the student is, a step down the weighted rows of the
    batch is tried on a copy; the cross-entropy of the copy on hard samples says where it should have gone; and the
    shares of those entries of the ledger grow whose gradient leads there. The student itself takes no part in this and
    is trained as ever. Hard samples are kept from the batches: the first ones, then those the student gets wrong.

    This protects the training loss of hard samples; nothing is held out. Every `every` steps cost one backward of the
    rows, a forward and backward on hard samples, and two forwards of the student and its teachers. These two are
    compared, and draw alike where they draw at random (dropout).

    One teacher alone has weight 1. Where the loss of a path is one number for the whole batch, each teacher gets the
    mean of its shares. Meant for one process, and for tasks with one class a sample.

    Args:
        batch: Largest number of samples of a batch, for networks of feature paths that read how alike its samples are
            (inner products of features, as published): they are tied to that number and to the order of the batch. None
            for networks that read the answers on all paths.
        every: Optimizer steps between two looks ahead, 1 or more.
        inner: Learning rate of the step that is tried, above 0.
        rate: Learning rate of the networks, which Adam trains, 0 or more.
        decay: Weight decay of the networks, 0 or more.
        hard: How many hard samples are kept, 1 or more. Nothing is learned before there are so many.
        drawn: How many of them judge a step, 1 or more; all of them where there are fewer.
        factor: How many times narrower the hidden layers are than what they read, 1 or more.
        through_weights: Let gradient flow through the shares into the student.

    Raises:
        InputError: A number is out of its range; in a step, a batch that is larger than `batch`.
        RecipeError: At `bind`: no labels or classes, no student, several processes, answers that are not one vector a
            sample, or, with `batch`, a path of several taps.

    Reference:
        Zhang, Chen, Wang 2023, "Adaptive multi-teacher knowledge distillation with meta-learning", arXiv:2306.06634.
        Deviations: one step is tried, without momentum, of the student alone, on the batch at hand, where published
        code tries two of distillation and one of the task, with its connectors, on hard samples; its gradient is found
        by a difference of losses instead of second derivatives; feature paths are weighed by the answers unless
        `batch`; no gradient flows through the shares unless `through_weights`. That code's buffer grows without bound
        where batches do not fill it exactly; here it does not.

    Example:
        >>> rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
        >>> gate = Meta()
        >>> gate.bind(rows, Spec(call=None, taps={}, student=nn.Linear(2, 2), classes=("x", "y")))
        >>> said = {"a": {"": torch.ones(1, 2)}, "b": {"": torch.zeros(1, 2)}}
        >>> with torch.no_grad():
        ...     gate(Ledger(rows, torch.ones(3, 1)), Lesson(None, {"": torch.ones(1, 2)}, said, {})).shape
        torch.Size([3, 1])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    per_sample: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        batch: int | None = None,
        every: int = 5,
        inner: float = 0.05,
        rate: float = 1e-3,
        decay: float = 1e-4,
        hard: int = 256,
        drawn: int = 64,
        factor: int = 2,
        through_weights: bool = False,
    ) -> None:
        super().__init__()
        if min(every, hard, drawn, factor, 1 if batch is None else batch) < 1:
            raise InputError(
                "Meta: expected batch, every, hard, drawn and factor of at least 1; "
                f"found {batch}, {every}, {hard}, {drawn} and {factor}."
            )
        if not (0 < inner < math.inf and 0 <= rate < math.inf and 0 <= decay < math.inf):
            raise InputError(
                f"Meta: expected inner above 0, and rate and decay of 0 or more; found {inner}, {rate} and {decay}."
            )
        self.batch, self.every, self.inner, self.rate, self.decay = batch, every, inner, rate, decay
        self.hard, self.drawn, self.factor, self.through_weights = hard, drawn, factor, through_weights
        self.nets = nn.ModuleDict()
        self.step = 0
        self._student: tuple[nn.Module, ...] = ()  # a tuple: the student is no part of the rule
        self._call: Callable[[nn.Module, Batch], Tensor] | None = None
        self._alike: dict[str, tuple[str, Mapping[str, Tap]]] = {}
        self._batchwise: frozenset[str] = frozenset()
        self._kept: dict[str, Tensor] = {}
        self._ahead: tuple[Batch, dict[str, Tensor], Tensor, Tensor] | None = None

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Make a network for each path with several teachers, and forget all samples."""
        super().bind(rows, spec)
        self._refuse_processes()
        if spec.student is None or not any(p.requires_grad for p in spec.student.parameters()):
            raise RecipeError("Meta: expected a student to train; found none, or one without trainable parameters.")
        if not spec.classes:
            raise RecipeError("Meta: expected a task with one class a sample; found one without classes.")
        self._student, self._call = (spec.student,), spec.call
        self._batchwise = spec.batchwise
        self._alike = {}
        shared = {path: members for path, members in by_path(rows).items() if len(members) > 1}
        nets = {path: self._net(path, [rows[k].teacher or "" for k in shared[path]], spec) for path in shared}
        self.nets = nn.ModuleDict(nets)
        self.step, self._kept, self._ahead = 0, {}, None
        keep_graphs_of_compiled_models()

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """Shares in [0, 1], ``[K, B]``, that sum to 1 over the teachers of a path; keeps hard samples in training."""
        shared = {path: members for path, members in by_path(ledger.rows).items() if path in self.nets}
        seen = {path: self._seen(path, [ledger.rows[k] for k in members], lesson) for path, members in shared.items()}
        weights = torch.ones_like(ledger.losses.detach())
        with torch.set_grad_enabled(self.through_weights and torch.is_grad_enabled()):
            for path, members in shared.items():
                weights[members] = self.nets[path](seen[path]).T.to(weights.dtype)
            weights = whole(weights, ledger.rows, self._batchwise)
        if self.training and torch.is_grad_enabled() and ledger.losses.requires_grad and shared:
            self._refuse_processes()
            if len(self._kept.get("index", ())) == self.hard and (self.step + 1) % self.every == 0:
                self._look(ledger, weights.detach(), lesson.batch, seen)
            self._keep(lesson)
        return weights

    def after_step(self, probe: Probe | None = None) -> None:
        """Count the step; if one was tried, let the networks learn from it."""
        self.step += 1
        if self._ahead is None or probe is None:
            return
        (batch, seen, start, pull), self._ahead = self._ahead, None
        wanted = self._wanted(start - self.inner * pull)
        length = wanted.norm()
        if not (0 < length < math.inf):
            return
        reach = REACH / length
        there, back = (self._losses(probe, batch, start + far * wanted) for far in (reach, -reach))
        # How much the cross-entropy of hard samples falls for each entry of the ledger, if it weighs one more.
        gain = self.inner * ((there - back) / (2 * reach) / len(batch)).nan_to_num(0.0, 0.0, 0.0)
        for path, members in by_path(self.rows).items():
            if path in seen:
                self.nets[path].learn(seen[path], -gain[members].T, rate=self.rate, decay=self.decay)  # type: ignore[operator]

    def get_extra_state(self) -> Tensor:
        """Number of steps and hard samples, as the bytes of a safetensors file."""
        kept = {name: x.contiguous().cpu() for name, x in self._kept.items()}
        return torch.frombuffer(bytearray(save({"step": torch.tensor(self.step), **kept})), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a number of steps and hard samples."""
        kept = load(state.cpu().numpy().tobytes())
        self.step = int(kept.pop("step"))
        self._kept, self._ahead = kept, None

    def _net(self, path: str, teachers: list[str], spec: Spec) -> "Shares":
        """The network of one path, as wide as what it will read."""
        if self.batch is not None and path not in spec.responses:
            tap, taps = spec.reads.get(path), spec.hears.get(path, {})
            if not isinstance(tap, str) or not all(isinstance(taps.get(teacher), str) for teacher in teachers):
                raise RecipeError(
                    f"path {path!r}: Meta compares the features of one tap, and the path reads several. Leave `batch` "
                    "out, so that it reads the answers."
                )
            self._alike[path] = tap, taps
            return Shares(self.batch * (len(teachers) + 1), len(teachers), self.factor)
        shapes = [spec.shape(model, "") or (len(spec.classes),) for model in (*teachers, "student")]
        widths = [shape[0] for shape in shapes if len(shape) == 1 and isinstance(shape[0], int)]
        if len(widths) < len(shapes):
            raise RecipeError(f"Meta: expected answers of one vector a sample; found {shapes}. Take another weighting.")
        return Shares(sum(widths), len(teachers), self.factor)

    def _seen(self, path: str, rows: list[Row], lesson: Lesson) -> Tensor:
        """What the network of a path reads, ``[B, …]``: what the teachers said, and then the student."""
        names = [row.teacher or "" for row in rows]
        if path not in self._alike:
            said = [*(lesson.teachers[name][""] for name in names), self._own(lesson.student[""])]
        else:
            tap, taps = self._alike[path]
            features = [lesson.teachers[name][str(taps[name])] for name in names] + [self._own(lesson.student[tap])]
            size, most = len(features[0]), self.batch or 0
            if size > most:
                raise InputError(f"Meta: expected batches of at most {most} samples (`batch`); found {size}.")
            flat = [feature.flatten(1).to(torch.promote_types(feature.dtype, torch.float32)) for feature in features]
            said = [F.pad(x @ x.T, (0, most - size)) for x in flat]
        dtype = next(self.nets.buffers()).dtype
        return torch.cat([x.flatten(1).to(dtype) for x in said], dim=1).nan_to_num(0.0, 0.0, 0.0).clamp(-1e6, 1e6)

    def _own(self, said: Tensor) -> Tensor:
        return said if self.through_weights else said.detach()

    def _look(self, ledger: Ledger, weights: Tensor, batch: Batch, seen: dict[str, Tensor]) -> None:
        """Note where the student is, and which way the weighted rows pull it."""
        taught = [k for k, row in enumerate(ledger.rows) if row.teacher is not None]
        rows = torch.stack([ledger.row(k) for k in taught])
        objective = torch.where(rows.detach().isfinite(), weights[taught] * rows, 0.0).sum(dim=0).mean()
        places = list(self._trained(self._student[0]).values())
        start = torch.cat([place.detach().flatten() for place in places])
        detached = {path: x.detach() for path, x in seen.items()}
        self._ahead = batch, detached, start, row_gradients([objective], places)[0].to(start.dtype)

    def _wanted(self, at: Tensor) -> Tensor:
        """The gradient of the cross-entropy of hard samples, for a student with these parameters."""
        assert self._call is not None
        twin = copy.deepcopy(self._student[0])
        twin.load_state_dict(self._named(at), strict=False)
        chosen = torch.randperm(self.hard)[: self.drawn]
        fields: dict[str, Any] = {name: self._kept[name][chosen].to(at.device) for name in FIELDS}
        hard = Batch(**fields)
        with torch.enable_grad():
            doubt = label_doubts([self._call(twin, hard)], Lesson(hard, {}, {}, {}))[0]
            if doubt is None:
                raise RecipeError("Meta: expected one class a sample; found answers that do not line up with labels.")
            return row_gradients([doubt.nanmean()], list(self._trained(twin).values()))[0].to(at.dtype)

    def _losses(self, probe: Probe, batch: Batch, at: Tensor) -> Tensor:
        """The ledger of a student with these parameters, which draws as the next one will: dropout and the like."""
        devices = [] if at.device.type == "cpu" else [at.device]
        with torch.random.fork_rng(devices, device_type=at.device.type):
            return probe(batch, self._named(at)).losses

    def _keep(self, lesson: Lesson) -> None:
        """Keep the first labelled samples, then those the student gets wrong, in place of any."""
        batch, answer = lesson.batch, lesson.student[""].detach()
        target = batch.target.argmax(dim=1) if batch.target.is_floating_point() else batch.target
        full = len(self._kept.get("index", ())) == self.hard
        chosen = (batch.labelled & (answer.argmax(dim=1) != target) if full else batch.labelled).nonzero().flatten()
        new = {name: getattr(batch, name).detach()[chosen] for name in FIELDS}
        if full:
            slots = torch.randperm(self.hard)[: len(chosen)]
            for name, kept in self._kept.items():
                kept[slots] = new[name][: self.hard].to(kept.device)
        elif self._kept:
            self._kept = {name: torch.cat([x, new[name].to(x.device)])[: self.hard] for name, x in self._kept.items()}
        else:
            self._kept = {name: x[: self.hard].clone() for name, x in new.items()}

    @staticmethod
    def _trained(student: nn.Module) -> dict[str, Tensor]:
        return {name: p for name, p in student.named_parameters() if p.requires_grad}

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        """Parameters of the student by name, from all of them in one line."""
        trained = self._trained(self._student[0])
        parts = torch.split(flat, [p.numel() for p in trained.values()])
        return {name: part.view_as(p) for (name, p), part in zip(trained.items(), parts, strict=True)}

    def _refuse_processes(self) -> None:
        if several_processes():
            raise RecipeError(
                "Meta: expected one process; found several, each with hard samples of its own. Train in one, or take "
                "another weighting, such as trust."
            )


class Shares(nn.Module):
    """Two layers from what was said to shares that sum to 1; all in one vector, which no optimizer of the student sees.

    Args:
        width: Numbers it reads for each sample.
        teachers: How many shares.
        factor: How many times narrower the hidden layer is.

    Example:
        >>> Shares(6, 2)(torch.zeros(3, 6)).shape
        torch.Size([3, 2])
    """

    values: Tensor

    def __init__(self, width: int, teachers: int, factor: int = 2) -> None:
        super().__init__()
        hidden = max(width // factor, 1)
        self.shapes = (hidden, width), (hidden,), (teachers, hidden), (teachers,)
        reaches = (width**-0.5, width**-0.5, hidden**-0.5, hidden**-0.5)
        draws = [torch.empty(shape).uniform_(-r, r).flatten() for shape, r in zip(self.shapes, reaches, strict=True)]
        self.register_buffer("values", torch.cat(draws))
        self.adam = Adam(len(self.values))

    def forward(self, seen: Tensor, values: Tensor | None = None) -> Tensor:
        """Shares ``[B, T]``, of these values or the newest."""
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = torch.split(self.values if values is None else values, sizes)
        into, bias, out, rest = (part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))
        return F.linear(F.linear(seen, into, bias).relu(), out, rest).softmax(dim=1)

    def learn(self, seen: Tensor, slope: Tensor, *, rate: float, decay: float) -> None:
        """One step, where `slope` ``[B, T]`` is the gradient in the shares."""
        values = self.values.detach().requires_grad_()
        with torch.enable_grad():
            (down,) = torch.autograd.grad((self(seen, values) * slope.to(values)).sum(), values)
        self.values = self.adam(self.values, down, rate=rate, decay=decay)
