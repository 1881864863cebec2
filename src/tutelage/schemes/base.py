"""Stage and Cast: what a scheme is written with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import nn

from tutelage.distiller import Distiller
from tutelage.ledger import Batch, Step
from tutelage.path import Path
from tutelage.teachers.base import Teacher
from tutelage.weighting import Weighting


@dataclass(frozen=True)
class Stage:
    """One training: who learns, from whom.

    By default every pupil attends once, then every pupil learns.

    Args:
        name: Unique within the scheme; finished stages are kept under it.
        pupils: The distillers that are trained together, by name.
        before_step: ``batch -> batch``, for example where a student generates what is learned from.
        step: Replaces the default where a teacher learns too.
        after_step: Called after every optimizer step.
        epochs: How long; None: as the run's settings say.
        lr: Peak learning rate, as a multiple of the run's.
    """

    name: str
    pupils: Mapping[str, Distiller]
    before_step: Callable[[Batch], Batch] | None = None
    step: Callable[[Batch], Mapping[str, Step]] | None = None
    after_step: Sequence[Callable[[], None]] = field(default=())
    epochs: int | None = None
    lr: float = 1.0

    def __call__(self, batch: Batch) -> Mapping[str, Step]:
        """One step of every pupil."""
        if self.before_step is not None:
            batch = self.before_step(batch)
        if self.step is not None:
            return self.step(batch)
        said = {name: pupil.attend(batch) for name, pupil in self.pupils.items()}
        return {name: pupil.learn(batch, said, name) for name, pupil in self.pupils.items()}


class Cast(Protocol):
    """Everything a scheme may ask for, built from the recipe."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The teachers' networks by name, for schemes that use a part of one."""

    def model(self, role: str) -> nn.Module:
        """A fresh model for a role: ``"student"``, or a name from the recipe."""

    def teachers(self) -> dict[str, Teacher]:
        """The recipe's teachers by name."""

    def distiller(
        self,
        model: nn.Module,
        teachers: Mapping[str, Teacher],
        *,
        paths: Mapping[str, Path] | None = None,
        weighting: Weighting | None = None,
    ) -> Distiller:
        """A distiller of this model with the recipe's paths to these teachers; without teachers, plain training.

        A stage that learns something else than the recipe's paths brings its own, and what they weigh.
        """

    def release(self, pupil: nn.Module) -> nn.Module:
        """The plain module to ship."""


def origin_of_changed(student: nn.Module, scheme: str, **arguments: Any) -> dict[str, Any]:
    """How a student can be built again once a scheme has changed it, which is known of models that have a name.

    Args:
        student: As it was, with its origin.
        scheme: The function of `tutelage.recipe.changed` that changes it in the same way.
        **arguments: What that function takes beside the student; plain data.
    """
    origin: dict[str, Any] = student.__dict__["origin"]
    if origin["library"] in ("module", "factory"):
        return {**origin, "library": "module"}
    arguments["student"] = {key: origin[key] for key in ("library", "name", "arguments")}
    return {"library": "factory", "name": f"tutelage.recipe.changed:{scheme}", "arguments": arguments, "weights": None}


Scheme = Callable[..., Iterator[Stage]]
"""A generator function ``(cast, *, options) -> stages``; code after a ``yield`` sees a trained pupil."""

S = TypeVar("S", bound=Scheme)


def asks_live(scheme: S) -> S:
    """Mark a scheme that changes its teachers, so that answers on disk are of no use to it.

    Example:
        >>> @asks_live
        ... def alone(cast): ...
        >>> alone.asks_live
        True
    """
    scheme.asks_live = True  # type: ignore[attr-defined]
    return scheme


def brings_teacher(scheme: S) -> S:
    """Mark a scheme that makes its own teacher and paths, so that a recipe needs none.

    Example:
        >>> @brings_teacher
        ... def alone(cast): ...
        >>> alone.brings_teacher
        True
    """
    scheme.brings_teacher = True  # type: ignore[attr-defined]
    return scheme
