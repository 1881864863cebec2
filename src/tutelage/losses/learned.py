"""Learned: a loss with layers of its own, sized by the features it compares."""

from collections.abc import Sequence
from typing import Any

from torch import nn

Sizes = Sequence[int] | Sequence[Sequence[int]]
"""Shape of one sample, or of one sample at several taps."""


class Learned(nn.Module):
    """A loss with layers, built once: for the shapes given to the constructor, or for those `bind` is told.

    A subclass keeps its options, calls `settle` at the end of its constructor, and makes its layers in `build`.
    Normalisation in a loss takes the batch's own statistics (`norm`), so that a forward changes nothing.

    Args:
        student: Shape of one sample of the student, or of several taps.
        teacher: Shape of one sample of the teacher, or of several taps.
    """

    def __init__(self, student: Sizes | None, teacher: Sizes | None) -> None:
        super().__init__()
        self.given = _tuples(student), _tuples(teacher)
        self.built = False

    def settle(self) -> None:
        """Build at once if both shapes were given."""
        if None not in self.given:
            self.bind(None, None, None)

    def bind(self, student: Any, teacher: Any, samples: int | None) -> None:
        """Build the layers, once, for these shapes of one sample.

        Raises:
            ValueError: A shape is not known, or not one this loss can compare.
        """
        if self.built:
            return
        ours, theirs = (given or told for given, told in zip(self.given, (student, teacher), strict=True))
        name = type(self).__name__
        if ours is None or theirs is None:
            raise ValueError(
                f"{name}: needs to know the shapes of student and teacher; found {ours} and {theirs}. Give them to the "
                f"constructor, without the batch ({name}(student=…, teacher=…)), or the distiller an example batch."
            )
        self.build(ours, theirs)
        self.built = True

    def build(self, student: Any, teacher: Any) -> None:
        """Make the layers."""
        raise NotImplementedError(f"{type(self).__name__} has no layers.")

    def need_built(self) -> None:
        """Refuse a forward before there are layers.

        Raises:
            ValueError: There are none.
        """
        if not self.built:
            raise ValueError(
                f"{type(self).__name__}: not bound. Give student= and teacher= shapes, or call bind() first."
            )


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation that remembers nothing."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _tuples(sizes: Any) -> Any:
    return tuple(map(_tuples, sizes)) if isinstance(sizes, Sequence) else sizes
