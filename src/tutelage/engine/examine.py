"""Look at the teachers before they teach: how good they are here, and whether they would do harm."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tutelage.cache import Record
from tutelage.errors import TeacherError
from tutelage.tasks.base import Task
from tutelage.verdict import value

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
        TeacherError: A teacher answers for another number of classes; or, without `force`, the task suspects it.
    """
    found = {}
    for name, model in teachers.items():
        _refuse_misfit(name, model, task, selection)
        if records and name in records:
            said = read_answers(records[name], task, selection())
        else:
            said = answer(model, task, selection(), device=device)
        found[name] = _judge(name, said, task, force)
    return found


def _judge(name: str, said: Answers, task: Task, force: bool) -> Examined:
    validation = value(said.scores(task), task.parts)
    problem, soft = task.suspect(name, said.kept), task.softness(said.kept)
    if problem is None:
        return Examined(validation, said.seconds, softness=soft)
    if not force:
        raise TeacherError(f"{problem} To go on all the same: --force.")
    return Examined(validation, said.seconds, (f"{problem} Used because of --force.",), soft)


def _refuse_misfit(name: str, model: nn.Module, task: Task, selection: Batches) -> None:
    first = task.unpack(next(iter(selection())))
    first = dataclasses.replace(first, inputs=first.inputs[:2])
    model.eval()
    with torch.no_grad():
        found = task.call(model, first)
    if (expected := task.fits(found, first.inputs, len(task.classes) or None)) is None:
        return
    mend = f", or name its columns for them: --set teachers.{name}.classes=[…]" if task.classes else ""
    classes = f"{len(task.classes)} classes, as in the data" if task.classes else expected
    raise TeacherError(
        f"teacher {name!r}: expected {classes}; it answers with shape {list(found.shape[1:])}. "
        f"Take a teacher trained for {'these classes' if task.classes else 'this task'}{mend}."
    )
