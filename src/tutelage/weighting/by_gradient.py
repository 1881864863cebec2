"""By gradient: weights from the inner products of the rows' gradients."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError, RecipeError, UnknownName, close_names
from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec
from tutelage.taps import MAP, POOLED, RMS

from . import solvers
from .base import Weighting, silence
from .gramian import gramian, row_gradients, several_processes, shared_mean
from .solvers import Solver

PARAMETERS = "parameters"
KEPT = " graphs are kept"


class ByGradient(Weighting):
    """Weigh the rows, the task's among them, by how their gradients in the student stand to each other.

    Each row's batch mean is differentiated with respect to the student's parameters, connectors left out; a solver
    turns the inner products of these gradients into one weight a row. The weights are constants, so that the ordinary
    ``loss.backward()`` yields the solver's direction; connectors receive gradients weighted alike. A step costs about
    one more backward a row.

    Rows are weighed as they are: a scale beside this rule multiplies its weights and costs the rule its promise.
    Many rules give weights that sum to 1, where other weightings give the task 1: the learning rate that suits them
    may be larger. Solvers see inner products whose mean square length is 1, so that a factor common to all losses
    changes nothing.

    A row without gradient keeps the weight it had, 1 at first. A taught row whose gradient is not finite has weight
    0; one of the task keeps 1, so that it is seen. In evaluation and without gradients, the newest weights are given.

    With several processes, gradients are averaged over all of them first, and all find the same weights. The rule
    decides for each batch it is called on: in a loop that accumulates the gradients of several batches for one step
    (the engine does not), it decides for each alone. Losses in float16 may lose small gradients here: no scaler has
    seen them yet.

    Args:
        rule: A solver; or the name of one, as ``"mgda"``; or name and options, as
            ``{"use": "mgda", "normaliser": "l2"}``; or any module from inner products ``[K, K]`` to weights ``[K]``.
        wrt: ``"parameters"``; or a tap of the student, whose gradients are cheaper to have and stand for those of all
            parameters before it. A row that does not pass through the tap has no gradient there.
        by: ``"row"``; or ``"path"``: the rows of a path are summed first and share a weight.
        every: Optimizer steps between two decisions, 1 or more; the weights stay in between.
        exact: With several processes, average the gradients (K times the traffic of a step). If not, their inner
            products are averaged instead, which is not the same: the noise of each process's batch counts.
        clamp: Raise negative weights, which some rules give, to 0.

    Raises:
        UnknownName: There is no solver of that name, or it has no such option.
        InputError: A number or word is out of its range.
        RecipeError: At `bind`: the student is not known, or has nothing to train; no sample has a label and the rule
            asks for the task's gradient.

    Reference:
        The solvers name their papers.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Row, Spec
        >>> student = nn.Linear(2, 1, bias=False)
        >>> rows = (Row("base"), Row("logits", "big"))
        >>> rule = ByGradient("mgda")
        >>> rule.bind(rows, Spec(call=None, taps={}, student=student))
        >>> losses = torch.stack([student.weight[0, :1], 3 * student.weight[0, 1:]])
        >>> rule(Ledger(rows, losses), None).flatten()
        tensor([0.9000, 0.1000])
    """

    weights: Tensor

    def __init__(
        self,
        rule: str | Mapping[str, Any] | nn.Module,
        *,
        wrt: str = PARAMETERS,
        by: Literal["row", "path"] = "row",
        every: int = 1,
        exact: bool = True,
        clamp: bool = False,
    ) -> None:
        super().__init__()
        if by not in ("row", "path"):
            raise InputError(f"{type(self).__name__}: expected by='row' or 'path'; found {by!r}.")
        if every < 1:
            raise InputError(f"{type(self).__name__}: expected every to be at least 1; found {every}.")
        if wrt.endswith((POOLED, MAP, RMS)):
            raise InputError(
                f"{type(self).__name__}: expected wrt to be a tensor that the student goes on with; found {wrt!r}, "
                "which is made for reading alone. Take the module itself, or its ':input'."
            )
        self.rule = rule if isinstance(rule, nn.Module) else _solver(rule)
        self.wrt = wrt
        self.by = by
        self.every = every
        self.exact = exact
        self.clamp = clamp
        self.step = 0
        self.register_buffer("weights", torch.ones(0))
        self._student: tuple[nn.Module, ...] = ()  # a tuple: the student is no part of the rule
        self._groups: list[list[int]] = []

    def taps(self) -> tuple[str, ...]:
        """The tap with respect to which gradients are taken, if it is one."""
        return () if self.wrt == PARAMETERS else (self.wrt,)

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Start with weights of 1 and nothing remembered."""
        super().bind(rows, spec)
        if self.wrt == PARAMETERS and not (spec.student and any(p.requires_grad for p in spec.student.parameters())):
            found = "none" if spec.student is None else "one without parameters that require a gradient"
            raise RecipeError(f"{type(self).__name__}: expected a student to train; found {found}.")
        if isinstance(self.rule, Solver) and self.rule.needs_task and not spec.labelled:
            raise RecipeError(
                f"{type(self.rule).__name__} protects the task's gradient; expected labels, found none. Take another "
                "weighting, such as auto."
            )
        self._student = () if spec.student is None else (spec.student,)
        names = [row.path if self.by == "path" else row.name for row in rows]
        self._groups = [[k for k, name in enumerate(names) if name == each] for each in dict.fromkeys(names)]
        self.weights = torch.ones(len(rows), device=self.weights.device)
        self.step = 0
        if isinstance(self.rule, Solver):
            own = sum(rows[group[0]].teacher is None for group in self._groups)
            self.rule.bind(len(self._groups), own)
        keep_graphs_of_compiled_models()

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient; negative only where the solver says so."""
        if self.training and torch.is_grad_enabled() and ledger.losses.requires_grad and self.step % self.every == 0:
            self._refresh(ledger, lesson)
        return silence(self.weights[:, None].to(ledger.losses.dtype), ledger)

    def after_step(self, probe: Probe | None = None) -> None:
        """Count the step."""
        self.step += 1

    def get_extra_state(self) -> Tensor:
        """The number of steps."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a number of steps."""
        self.step = int(state)

    def _refresh(self, ledger: Ledger, lesson: Lesson) -> None:
        """Decide anew."""
        objectives = self._objectives(ledger)
        products, losses = self.measure(objectives, lesson)
        lost = ~products.diagonal().isfinite()
        heard = (products.diagonal() > 0).nonzero().flatten()
        each = self._newest()
        if len(heard):
            each[heard] = self.decide(products[heard][:, heard], losses[heard], heard).to(each)
        each = each.nan_to_num(nan=0.0, posinf=1e30, neginf=-1e30).clamp(min=0.0 if self.clamp else -1e30, max=1e30)
        for weight, group, silent in zip(each, self._groups, lost.tolist(), strict=True):
            own = self.rows[group[0]].teacher is None
            self.weights[group] = (1.0 if own else 0.0) if silent else weight.to(self.weights)

    def _newest(self) -> Tensor:
        """The weight that each objective has, float64 on the CPU."""
        return self.weights[[group[0] for group in self._groups]].cpu().double()

    def _objectives(self, ledger: Ledger) -> list[Tensor]:
        """Batch means of the rows, or their sums over each path; taught entries that are not finite count as 0."""
        means = []
        for k, row in enumerate(ledger.rows):
            losses = ledger.row(k)
            finite = losses if row.teacher is None else torch.where(losses.detach().isfinite(), losses, 0.0)
            means.append(finite.mean())
        return [torch.stack([means[k] for k in group]).sum() for group in self._groups]

    def measure(self, objectives: Sequence[Tensor], lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Inner products ``[K, K]`` and losses ``[K]`` of the whole batch, over all processes; float64, on the CPU.

        Raises:
            RecipeError: Nothing that is trained comes before the tap.
        """
        at_tap = self.wrt != PARAMETERS
        places = [lesson.student[self.wrt]] if at_tap else self._trained()
        if at_tap and not places[0].requires_grad:
            raise RecipeError(
                f"{type(self).__name__}: expected a tap behind layers that are trained; found wrt={self.wrt!r}, "
                "before them. Take a later tap."
            )
        gradients = row_gradients(objectives, places)
        losses = torch.stack(list(objectives)).detach().to(gradients.dtype)
        if self.exact and not at_tap and several_processes():
            both = shared_mean(torch.cat([gradients, losses[:, None]], dim=1))
            products, losses = gramian(both[:, :-1]), both[:, -1]
        else:
            # At a tap each process has samples of its own, so that this is exact there: sums over samples add up.
            products = gramian(gradients)
            both = shared_mean(torch.cat([products, losses.to(products)[:, None]], dim=1))
            products, losses = both[:, :-1], both[:, -1]
        both = torch.cat([products, losses.to(products)[:, None]], dim=1).cpu()
        return both[:, :-1], both[:, -1]

    def decide(self, products: Tensor, losses: Tensor, at: Tensor) -> Tensor:
        """Weights of the objectives that have a gradient; those of the solver.

        Args:
            products: Inner products, float64 ``[K, K]``.
            losses: float64 ``[K]``.
            at: Which objectives these are, int64 ``[K]``.
        """
        products = products / products.diagonal().mean()
        weights: Tensor = self.rule(products, losses, at) if isinstance(self.rule, Solver) else self.rule(products)
        return weights

    def _trained(self) -> list[Tensor]:
        return [p for student in self._student for p in student.parameters() if p.requires_grad]


def keep_graphs_of_compiled_models() -> None:
    """Let compiled models be differentiated more than once a step, as several gradients need; for this process.

    Backward code that overwrites what the forward left for it is what PyTorch compiles otherwise, and finds again on
    disk under the same key: the second gradient would be another one, without a word. So the key has a tag of its own.
    """
    import torch._functorch.config as functorch
    import torch.compiler.config as compiler

    functorch.donated_buffer = False
    if not compiler.cache_key_tag.endswith(KEPT):
        compiler.cache_key_tag += KEPT


def _solver(rule: str | Mapping[str, Any]) -> Solver:
    """A solver from its name, or from its name and options."""
    given = {"use": rule} if isinstance(rule, str) else dict(rule)
    name = str(given.pop("use", ""))
    found = named(name)
    if found is None:
        raise UnknownName(f"by_gradient: there is no rule {name!r}; {close_names(name, rules())}.")
    known = options(found)
    for option in given:
        if option not in known and "name" not in known:  # torchjd's own options are its own business
            raise UnknownName(
                f"by_gradient: rule {name!r} has no option {option!r}"
                + (f"; {close_names(option, known)}." if known else ", nor any other.")
            )
    made: Solver = found(**given)
    return made


def options(solver: type[Solver]) -> list[str]:
    """What a solver may be given by keyword.

    Example:
        >>> options(solvers.MGDA), options(solvers.UPGrad)
        (['normaliser'], [])
    """
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [name for name, p in inspect.signature(solver).parameters.items() if p.kind not in several]


def rules() -> dict[str, type[Solver]]:
    """The solvers by the names that recipes use.

    Example:
        >>> list(rules())[:4]
        ['agem', 'imtlg', 'mgda', 'alignedmtl']
    """
    return {name.lower(): getattr(solvers, name) for name in solvers.__all__ if name != "Solver"}


def named(name: str) -> type[Solver] | None:
    """The solver of a name, in which underscores and capitals do not count; None if there is none.

    Example:
        >>> named("aligned_mtl").__name__, named("mgada")
        ('AlignedMTL', None)
    """
    return rules().get(name.lower().replace("_", ""))
