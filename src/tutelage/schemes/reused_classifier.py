"""Reused classifier: the student learns to speak to the teacher's classifier, and keeps it."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import nn

from tutelage.connectors import Bottleneck
from tutelage.distiller import STUDENT
from tutelage.errors import RecipeError
from tutelage.path import Path
from tutelage.taps import classifier, inner

from .base import Cast, Stage, origin_of_changed


def reused_classifier(cast: Cast, *, path: str = "reused", reduction: int = 2) -> Iterator[Stage]:
    """A frozen teacher's classifier stands behind the student and a learned connector; all of it is the student.

    The taps are those of one path of the recipe. Behind the student's tap a `Bottleneck` to the teacher's shape becomes
    a part of the student, and the teacher's classifier, which stays as it is, takes the place of the student's own.
    What is validated, counted, exported and shipped is this student. The published recipe learns from that path alone:

    ```yaml
    paths: {reused: {loss: mse, student: layer3, teacher: layer3, connector: null}}
    weighting: {scale: {use: fixed, base: 0}}
    scheme: {use: reused_classifier}
    ```

    Args:
        cast: The models; one teacher.
        path: The path whose taps are joined, without a connector of its own.
        reduction: Of `connectors.Bottleneck`.

    Raises:
        RecipeError: There is no such path, it has a connector, there are several teachers, or the teacher's classifier
            is no linear layer.

    Reference:
        Chen, Mei, Zhang, Wang, Feng & Chen 2022, "Knowledge Distillation with the Reused Teacher Classifier",
        arXiv:2203.14001 (SimKD). Deviation: grids have to agree (its code averages the larger down), and the student's
        own classifier is left out where there it stays unused.
    """
    probe = cast.distiller(cast.model(STUDENT), cast.teachers())
    if len(cast.networks) != 1 or path not in probe.paths:
        raise RecipeError(
            f"reused_classifier: expected one teacher and a path {path!r} that names the taps; found teachers "
            f"{', '.join(cast.networks)} and paths {', '.join(probe.paths)}."
        )
    wire, (name, network) = probe.paths[path], next(iter(cast.networks.items()))
    assert isinstance(wire, Path)
    ours, theirs = wire.student_tap, wire.teacher_tap(name)
    if not all(isinstance(part, nn.Identity) for part in wire.connectors) or not isinstance(ours, str):
        raise RecipeError(
            f"path {path!r}: expected one tap and no connector, found others. The scheme puts its own into the "
            "student: write `connector: null`."
        )
    shapes: Any = probe.spec.shape(STUDENT, ours), probe.spec.shape(name, theirs)
    model = cast.model(STUDENT)
    found = classifier(network)
    head = inner(network).get_submodule(found) if found else None
    if not isinstance(head, nn.Linear):
        raise RecipeError(
            f"reused_classifier: expected teacher {name!r} to end in a linear classifier, found {type(head).__name__}."
        )
    between: Any = Bottleneck(reduction=reduction)
    try:
        between.bind(*shapes, None)
    except ValueError as error:
        raise RecipeError(f"path {path!r}: {error}") from error
    origin = origin_of_changed(
        model,
        "reused_classifier",
        tap=ours,
        shapes=[list(shape) for shape in shapes],
        reduction=reduction,
        classifier=[head.in_features, head.out_features, head.bias is not None],
    )
    extend(model, ours, between, copy.deepcopy(head).requires_grad_(False))
    order = network.__dict__["preprocess"].classes
    model.__dict__["preprocess"] = dataclasses.replace(model.__dict__["preprocess"], classes=order)
    model.__dict__["origin"] = origin
    yield Stage(STUDENT, {STUDENT: cast.distiller(model, cast.teachers())})


def extend(model: nn.Module, tap: str, connector: nn.Module, head: nn.Module) -> nn.Module:
    """Put a connector behind a module of the model, and another classifier in the place of its own.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> extend(model, "0", nn.Linear(8, 6), nn.Linear(6, 3))[1]
        Linear(in_features=6, out_features=3, bias=True)
    """
    place, last = inner(model), classifier(model)
    modules = dict(place.named_modules())
    if not tap or tap not in modules or last is None or last.startswith(f"{tap}."):
        raise RecipeError(
            f"reused_classifier: expected a module of the student in front of its classifier, found {tap!r}."
        )
    for name, module in ((last, head), (tap, nn.Sequential(modules[tap], connector))):
        above, _, own = name.rpartition(".")
        setattr(modules[above], own, module)
    return model
