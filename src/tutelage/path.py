"""Path: one wire, from a tap of the student (or several) through a connector and a loss to a tap of the teachers."""

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor, nn

from .errors import RecipeError, UnknownName, close_names
from .ledger import Batch, Outputs, Row, Said, Shape, Spec, Tap
from .losses.batchwise import is_batchwise
from .losses.together import hears_together, marked
from .taps import evaluating

EXTRAS = ("index", "target", "inputs", "mask", "element_weight", "head")
"""What a loss may ask for by keyword."""


class Path(nn.Module):
    """One wire: student tap -> connector -> loss <- teacher tap, for some or all teachers.

    A list of taps instead of one hands the loss a tuple of tensors; it is for losses that look at several layers
    together.

    Args:
        loss: ``(student, teacher) -> [B]``. By keyword it may ask for ``index``, ``target``, ``inputs``, ``mask``
            and ``element_weight`` (from `Batch.extras`), and ``head`` (the teacher's classifier). A module is cloned
            per teacher.
        student: The student's tap: a module's name, ``"name:input"``, or ``""`` for the output; or a list of taps.
        teacher: The teachers' tap or list of taps, or one for each teacher by name.
        teachers: Which teachers to hear; None for all.
        connector: What stands between the student's tap and the loss, cloned per teacher, or one for each teacher
            by name. Parts with a ``bind(student, teacher, samples)`` method are told the shapes of one sample.
            With several taps it is cloned for each, and the teacher needs as many; losses are told tuples of shapes.

    Raises:
        RecipeError: A list of taps is empty.

    Example:
        >>> from tutelage.losses import kl
        >>> Path(kl, teachers=["big"]).rows("logits", ["big", "wide"])
        (Row(path='logits', teacher='big'),)
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        *,
        student: str | Sequence[str] = "",
        teacher: str | Sequence[str] | Mapping[str, str | Sequence[str]] = "",
        teachers: Sequence[str] | None = None,
        connector: nn.Module | Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.student_tap = _tap(student)
        self._each = {name: _tap(tap) for name, tap in teacher.items()} if isinstance(teacher, Mapping) else None
        self._all = "" if isinstance(teacher, Mapping) else _tap(teacher)
        self.named = None if teachers is None else tuple(teachers)
        self.name = ""
        self.hears: tuple[str, ...] = ()
        self._given = (loss, connector)  # a tuple: the originals are not part of the module
        self._functions: list[Callable[..., Tensor]] = []
        self.losses = nn.ModuleList()
        self.connectors = nn.ModuleList()
        self.wants = wanted_extras(loss)
        self.batchwise = is_batchwise(loss)
        self.elementwise = "element_weight" in self.wants and self.student_tap == "" and connector is None

    def rows(self, name: str, teachers: Iterable[str]) -> tuple[Row, ...]:
        """The ledger rows this path will write, one for each teacher it hears."""
        return tuple(Row(name, teacher) for teacher in self._heard(name, tuple(teachers)))

    def teacher_tap(self, teacher: str) -> Tap:
        """The tap that is read from this teacher, or several."""
        return self._all if self._each is None else self._each[teacher]

    def unbound(self) -> Self:
        """The same wire for another distiller: it shares what was given, and what binding will make is its own."""
        made = copy.copy(self)
        made.__dict__["_modules"] = dict(self._modules)
        return made

    def bind(self, name: str, teachers: Iterable[str], spec: Spec) -> None:
        """Clone loss and connector for each teacher and tell them their sizes.

        Raises:
            RecipeError: The loss goes by labels and there are none, or asks for a classifier that a teacher lacks.
        """
        self.name, self.hears = name, self._heard(name, tuple(teachers))
        self.losses, self.connectors, self._functions = nn.ModuleList(), nn.ModuleList(), []
        loss, connector = self._given
        if not spec.labelled and marked(loss, "needs_labels"):
            raise RecipeError(
                f"path {name!r}: its loss goes by the labels; expected training samples with one, found none. Give "
                "labels, or take a loss that needs none, such as kl."
            )
        for teacher in self.hears:
            own = connector.get(teacher) if isinstance(connector, Mapping) else connector
            shapes = spec.shape("student", self.student_tap), spec.shape(teacher, self.teacher_tap(teacher))
            between = self._between(name, teacher, own)
            self.connectors.append(_bound(between, name, shapes, spec))
            if isinstance(loss, nn.Module):
                adapted = _shape_after(self.connectors[-1], shapes[0])
                self.losses.append(_bound(loss, name, (adapted, shapes[1]), spec))
                self._functions.append(self.losses[-1])
            else:
                self._functions.append(loss)
            if "head" in self.wants and teacher not in spec.heads:
                raise RecipeError(
                    f"path {name!r}: its loss asks for the classifier (or the head) of teacher {teacher!r}, which has "
                    "none that could be found. If its answers are read from a store, hear it live (train.cache=live); "
                    "else leave it out of this path (`teachers:`) or take another loss."
                )
            if set(self.wants) <= {"head"}:
                heads = {"head": spec.heads[teacher]} if self.wants else {}
                _try(self._functions[-1], self.connectors[-1], name, shapes, heads)

    def forward(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        heads: Mapping[str, nn.Module],
        elements: Mapping[str, Tensor],
        apart: Collection[str] = (),
    ) -> dict[str, tuple[Tensor, Said]]:
        """What each teacher thinks of the student here.

        Args:
            student: What the student said.
            teachers: What each teacher said.
            batch: About what.
            heads: The teachers' classifiers.
            elements: Row name -> weights of the positions, beside the batch's own (see `Weighting.elements`).
            apart: Names of rows of which no gradient reaches the student.

        Returns:
            Teacher name -> (loss ``[B]``, the student's tap, or taps, after the connector).

        Raises:
            ValueError: The loss did not give one value per sample.
        """
        alone = [Row(self.name, teacher).name in apart for teacher in self.hears]
        adapted = [
            connector(said_at(self.student_tap, student, detach=own))
            for own, connector in zip(alone, self.connectors, strict=True)
        ]
        said = [said_at(self.teacher_tap(teacher), teachers[teacher], detach=True) for teacher in self.hears]
        placed = [elements.get(Row(self.name, teacher).name) for teacher in self.hears]
        extras = [self._extras(batch, heads.get(name), own) for name, own in zip(self.hears, placed, strict=True)]
        split = {own is not None for own in placed}
        if _alike(said) and self._one_call() and len(split) == len(set(alone)) == 1:
            ask = functools.partial(self._functions[0], adapted[0])
            values = _together(ask, torch.stack(said), extras, split=split == {True})
        else:
            values = tuple(
                loss(seen, heard, **wanted)
                for loss, seen, heard, wanted in zip(self._functions, adapted, said, extras, strict=True)
            )
        for value in values:
            if value.shape != (len(batch),):
                raise ValueError(
                    f"path at student tap {self.student_tap!r}: its loss should give one value per sample, "
                    f"[{len(batch)}]; found {list(value.shape)}."
                )
        return dict(zip(self.hears, zip(values, adapted, strict=True), strict=True))

    def learners(self) -> tuple[str, ...]:
        """Teachers that are heard through layers of the path's own, in connector or loss."""
        own = zip(self.hears, self.connectors, self._functions, strict=True)
        return tuple(name for name, between, loss in own if _has_parameters(between) or _has_parameters(loss))

    def commit(self) -> None:
        """Let losses that remember change their memory; once after every step."""
        for loss in self.losses:
            commit: Callable[[], None] | None = getattr(loss, "commit", None)
            if commit is not None:
                commit()

    def _one_call(self) -> bool:
        """Whether the loss can hear all teachers at once: they differ in nothing but what they say."""
        plain = all(isinstance(connector, nn.Identity) for connector in self.connectors)
        return plain and "head" not in self.wants and hears_together(self._functions[0])

    def _extras(self, batch: Batch, head: nn.Module | None, own: Tensor | None) -> dict[str, Any]:
        known = {"index": batch.index, "target": batch.target, "inputs": batch.inputs, "head": head}
        found: dict[str, Any] = {want: known[want] if want in known else batch.extras.get(want) for want in self.wants}
        if own is not None and "element_weight" in found:
            shared = found["element_weight"]
            found["element_weight"] = own if shared is None else own * shared
        return found

    def _heard(self, name: str, teachers: tuple[str, ...]) -> tuple[str, ...]:
        for teacher in (*(self.named or ()), *(self._each or ())):
            if teacher not in teachers:
                raise UnknownName(
                    f"path {name!r} names teacher {teacher!r}, which is not among the teachers; "
                    f"{close_names(teacher, teachers)}."
                )
        hears = teachers if self.named is None else self.named
        return hears if self._each is None else tuple(t for t in hears if t in self._each)

    def _between(self, name: str, teacher: str, connector: nn.Module | None) -> nn.Module:
        """The connector from tap to tap; one for each where there are several."""
        ours, theirs = self.student_tap, self.teacher_tap(teacher)
        if connector is None or (isinstance(ours, str) and isinstance(theirs, str)):
            return connector or nn.Identity()
        if isinstance(ours, str) or isinstance(theirs, str) or len(ours) != len(theirs):
            raise RecipeError(
                f"path {name!r}: a connector leads from tap to tap, but the student has {len(tap_names(ours))} here "
                f"and teacher {teacher!r} {len(tap_names(theirs))}. Name as many, or leave the connector out."
            )
        return _EachTap(connector, len(ours))


def _has_parameters(part: Callable[..., Any]) -> bool:
    return isinstance(part, nn.Module) and any(p.requires_grad for p in part.parameters())


class _EachTap(nn.ModuleList):
    """The same connector between several taps, with sizes of its own for each."""

    def __init__(self, connector: nn.Module, taps: int) -> None:
        super().__init__(copy.deepcopy(connector) for _ in range(taps))

    def bind(self, student: Any, teacher: Any, samples: int | None) -> None:
        unknown = (None,) * len(self)
        for connector, *shapes in zip(self, student or unknown, teacher or unknown, strict=True):
            bind: Callable[..., None] | None = getattr(connector, "bind", None)
            if bind is not None:
                bind(*shapes, samples)

    def forward(self, said: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(connector(x) for connector, x in zip(self, said, strict=True))


def tap_names(tap: Tap) -> tuple[str, ...]:
    """The names in a tap, one or several.

    Example:
        >>> tap_names("layer3"), tap_names(("layer2", "layer3"))
        (('layer3',), ('layer2', 'layer3'))
    """
    return (tap,) if isinstance(tap, str) else tap


def said_at(tap: Tap, outputs: Outputs, *, detach: bool = False) -> Said:
    """What a model said at one tap, or a tuple of what it said at several."""
    said = tuple(outputs[name].detach() if detach else outputs[name] for name in tap_names(tap))
    return said[0] if isinstance(tap, str) else said


def _alike(said: list[Said]) -> TypeGuard[list[Tensor]]:
    """Whether several teachers said one tensor each, all of one shape."""
    tensors = [x for x in said if isinstance(x, Tensor)]
    return len(tensors) == len(said) > 1 and len({x.shape for x in tensors}) == 1


def _together(
    ask: Callable[..., Tensor], said: Tensor, extras: list[dict[str, Any]], *, split: bool
) -> tuple[Tensor, ...]:
    """What a loss says of each teacher, in one call; if `split`, each with its own weights of the positions."""
    name = "element_weight"
    own = {name: torch.stack([wanted[name] for wanted in extras])} if split else {}
    return torch.func.vmap(lambda heard, own: ask(heard, **extras[0] | own))(said, own).unbind()


def _tap(given: str | Sequence[str]) -> Tap:
    if not isinstance(given, str) and not given:
        raise RecipeError("path: expected a tap or a list of taps, found an empty list. Leave it out for the output.")
    return given if isinstance(given, str) else tuple(given)


def wanted_extras(loss: Callable[..., Tensor]) -> tuple[str, ...]:
    """Which of `EXTRAS` a loss asks for by keyword.

    Example:
        >>> wanted_extras(lambda student, teacher, *, target: student)
        ('target',)
    """
    called = loss.forward if isinstance(loss, nn.Module) else loss
    parameters = inspect.signature(called).parameters
    return tuple(extra for extra in EXTRAS if extra in parameters)


Sizes = tuple[Shape | tuple[Shape, ...] | None, Shape | tuple[Shape, ...] | None]


def _bound(part: nn.Module, path: str, shapes: Sizes, spec: Spec) -> nn.Module:
    part = copy.deepcopy(part)
    bind: Callable[..., None] | None = getattr(part, "bind", None)
    if bind is not None:
        with _refused(path, shapes):
            bind(*shapes, spec.samples)
    return part


def _try(
    loss: Callable[..., Tensor], connector: nn.Module, path: str, shapes: Sizes, heads: Mapping[str, nn.Module]
) -> None:
    """Hand a loss of several taps blank features, so that one made for single tensors is refused before a batch."""
    if None not in shapes and any(map(_is_several, shapes)):
        with _refused(path, shapes), torch.no_grad():
            blank = _blank(_shape_after(connector, shapes[0])), _blank(shapes[1])
            copy.deepcopy(loss)(*blank, **{want: copy.deepcopy(head).cpu() for want, head in heads.items()})


@contextlib.contextmanager
def _refused(path: str, shapes: Sizes) -> Iterator[None]:
    """What a part does not accept, in the words of the path it is in."""
    try:
        yield
    except ValueError as error:
        raise RecipeError(f"path {path!r}: {error}") from error
    except (AttributeError, TypeError) as error:
        if not any(map(_is_several, shapes)):
            raise
        raise RecipeError(
            f"path {path!r}: its loss cannot take several taps ({error}). Give each pair of taps a path of its own, or "
            "take a loss that looks at several layers."
        ) from error


def _is_several(shape: Any) -> bool:
    return bool(shape) and isinstance(shape[0], tuple)


def _blank(shape: Any) -> Said:
    """Two blank samples of a shape, or of each of several."""
    return tuple(torch.zeros(2, *each) for each in shape) if _is_several(shape) else torch.zeros(2, *shape)


def _shape_after(connector: nn.Module, shape: Any) -> Any:
    """Shape of one sample behind a connector, found by sending two blank ones through it; of each tap if several."""
    if shape is None or isinstance(connector, nn.Identity):
        return shape
    if isinstance(connector, _EachTap):
        return tuple(_shape_after(*each) for each in zip(connector, shape, strict=True))
    with evaluating(connector), torch.no_grad():
        return tuple(connector(torch.zeros(2, *shape)).shape[1:])
