"""Look at the teachers before they teach: how good they are here, and whether they would do harm."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tutelage.cache import Record
from tutelage.errors import TeacherError
from tutelage.losses.temperature import softness
from tutelage.tasks.base import Task

from .evaluate import Answers, answer, read_answers

Batches = Callable[[], Any]


@dataclass(frozen=True)
class Examined:
    """What is known of a teacher before training.

    Args:
        validation: Its main metric on the selection split.
        seconds: How long its answers took.
        notes: What people should know.
        softness: Of its answers at several temperatures; empty where there are no classes.
    """

    validation: float
    seconds: float
    notes: tuple[str, ...] = ()
    softness: Mapping[float, float] = field(default_factory=dict)


def examine(
    teachers: Mapping[str, nn.Module],
    task: Task,
    selection: Batches,
    *,
    force: bool,
    records: Mapping[str, Record] | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Examined]:
    """Score every teacher on the selection split.

    Args:
        teachers: Networks by name.
        task: The task.
        selection: Gives a fresh iterator over the selection split.
        force: Go on with a teacher that would be refused.
        records: Answers to the selection split that are on disk already, by teacher.
        device: Where to run them.

    Raises:
        TeacherError: A teacher answers for another number of classes; or, without `force`, is near chance or seems to
            have its classes in another order.
    """
    found = {}
    for name, model in teachers.items():
        _count_classes(name, model, task, selection)
        if records and name in records:
            said = read_answers(records[name], task, selection())
        else:
            said = answer(model, task, selection(), device=device)
        found[name] = _judge(name, said, task, force)
    return found


def _judge(name: str, said: Answers, task: Task, force: bool) -> Examined:
    if not task.classes:
        return Examined(float(said.scores(task).mean()), said.seconds)
    scores = said.scores(task)
    accuracy, n = float(scores.mean()), len(scores)
    problem = (
        _not_finite(name, said)
        or _permuted(name, said, accuracy, len(task.classes))
        or _at_chance(name, accuracy, n, said)
    )
    soft = softness(said.prediction.clamp(min=1e-12).log())
    if problem is None:
        return Examined(accuracy, said.seconds, softness=soft)
    if not force:
        raise TeacherError(f"{problem} To go on all the same: --force.")
    return Examined(accuracy, said.seconds, (f"{problem} Used because of --force.",), soft)


def _count_classes(name: str, model: nn.Module, task: Task, selection: Batches) -> None:
    if not task.classes:
        return
    first = task.unpack(next(iter(selection())))
    first = dataclasses.replace(first, inputs=first.inputs[:2])
    model.eval()
    with torch.no_grad():
        found = task.call(model, first).shape
    if len(found) != 2 or found[1] != len(task.classes):
        shape = list(found[1:])
        raise TeacherError(
            f"teacher {name!r}: expected {len(task.classes)} classes, as in the data; it answers with shape {shape}. "
            "Take a teacher trained for these classes, or name its columns for them: "
            f"--set teachers.{name}.classes=[…]."
        )


def _not_finite(name: str, said: Answers) -> str | None:
    """A message where some of its answers are no numbers."""
    broken = int((~said.prediction.isfinite().flatten(1).all(dim=1)).sum())
    if not broken:
        return None
    return (
        f"teacher {name!r}: expected finite answers, found NaN or infinity for {broken} of {len(said.prediction)} "
        "pictures of the selection split. Check its weights and its normalisation."
    )


def _at_chance(name: str, accuracy: float, n: int, said: Answers) -> str | None:
    """A message where the accuracy could be that of always naming the commonest class."""
    chance = float(torch.bincount(said.target).max()) / n
    limit = chance + 3 * math.sqrt(chance * (1 - chance) / n)
    if accuracy > limit:
        return None
    return (
        f"teacher {name!r}: expected an accuracy above chance on the selection split (over {limit:.3f}), found "
        f"{accuracy:.3f}. Check its weights, its normalisation and its classes."
    )


def _permuted(name: str, said: Answers, accuracy: float, classes: int) -> str | None:
    """A message where another order of classes would fit much better."""
    from scipy.optimize import linear_sum_assignment

    predicted = said.prediction.argmax(dim=1)
    table = torch.bincount(said.target * classes + predicted, minlength=classes**2).reshape(classes, classes)
    _, columns = linear_sum_assignment(-table.numpy())
    mended = float(table[torch.arange(classes), torch.as_tensor(columns)].sum()) / len(predicted)
    moved = int((torch.as_tensor(columns) != torch.arange(classes)).sum())
    if moved < 2 or mended < 0.5 or mended - accuracy < 0.25:
        return None
    order = [int(c) for c in columns]
    return (
        f"teacher {name!r}: its accuracy here is {accuracy:.3f}, but {mended:.3f} with its classes in another order: "
        f"they look permuted. To mend it: --set 'teachers.{name}.classes={order}'."
    )
