"""Build a student that its scheme has changed again, from what its folder says."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.connectors import Bottleneck
from tutelage.models.sources import LIBRARIES
from tutelage.schemes.reused_classifier import extend
from tutelage.schemes.subclasses import divide


def reused_classifier(
    *,
    student: Mapping[str, Any],
    tap: str,
    shapes: Sequence[Sequence[int]],
    reduction: int,
    classifier: tuple[int, int, bool],
) -> nn.Module:
    """The student with a connector and the teacher's classifier, and fresh weights.

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


def subclasses(*, student: Mapping[str, Any], parts: int) -> nn.Module:
    """The student with a divided classifier, and fresh weights.

    Args:
        student: Its library, name and arguments.
        parts: Subclasses of each class.
    """
    model = LIBRARIES[student["library"]].build(student["name"], student["arguments"])
    return divide(model, parts)[0]
