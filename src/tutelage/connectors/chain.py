"""chain: several connectors in a row."""

import torch
from torch import nn

from tutelage.taps import evaluating


def chain(*connectors: nn.Module) -> nn.Sequential:
    """Connectors applied one after the other; each is told the shape that the ones before it give.

    Args:
        connectors: Any modules, the one next to the student first.

    Returns:
        A module with `bind`.

    Example:
        >>> from tutelage.connectors import Project, Resize
        >>> both = chain(Resize(), Project())
        >>> both.bind((16, 8, 8), (64, 4, 4), None)
        >>> both(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 64, 4, 4])
    """
    return _Chain(*connectors)


class _Chain(nn.Sequential):
    def bind(self, student: tuple[int, ...] | None, teacher: tuple[int, ...] | None, samples: int | None) -> None:
        for connector in self:
            bind = getattr(connector, "bind", None)
            if bind is not None:
                bind(student, teacher, samples)
            student = _shape_behind(connector, student)


@torch.no_grad()
def _shape_behind(connector: nn.Module, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    with evaluating(connector):  # two blank samples must not move statistics
        return tuple(connector(torch.zeros(2, *shape)).shape[1:])
