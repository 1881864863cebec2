"""Build a student with a reused classifier again, from what its folder says."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.connectors import Bottleneck
from tutelage.models.sources import LIBRARIES
from tutelage.schemes.reused_classifier import extend


def reused_classifier(
    *,
    student: Mapping[str, Any],
    tap: str,
    shapes: Sequence[Sequence[int]],
    reduction: int,
    classifier: tuple[int, int, bool],
) -> nn.Module:
    """The student with connector and classifier, and fresh weights.

    Args:
        student: Its library, name and arguments.
        tap: What the connector stands behind.
        shapes: Of one sample there, of student and teacher.
        reduction: Of the connector.
        classifier: Width, classes, and whether there is a bias.
    """
    model = LIBRARIES[student["library"]].build(student["name"], student["arguments"])
    width, classes, bias = classifier
    between = Bottleneck(student=shapes[0], teacher=shapes[1], reduction=reduction)
    return extend(model, tap, between, nn.Linear(width, classes, bias=bias))
