"""What a model says about a slice, and how good that is."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.cache import Record
from tutelage.ledger import Batch
from tutelage.taps import evaluating
from tutelage.tasks.base import Kept, Task


@dataclass(frozen=True)
class Answers:
    """What is kept of a model's predictions on a slice, on the CPU.

    Args:
        kept: What the task needs of them, each ``[N, ...]``.
        metrics: The task's metrics over the slice.
        index: Numbers of the samples, ``[N]``.
        seconds: How long the model took.
    """

    kept: Kept
    metrics: Mapping[str, float]
    index: Tensor
    seconds: float

    def scores(self, task: Task) -> Tensor:
        """How good each prediction is, ``[N]``; or what the task's metric needs of each, ``[N, ...]``."""
        return task.score(self.kept)

    def at(self, positions: Tensor) -> Kept:
        """What is kept of the samples at these positions."""
        return {name: values[positions] for name, values in self.kept.items()}


def answer(model: nn.Module, task: Task, batches: Iterable[Any], *, device: torch.device | str = "cpu") -> Answers:
    """Run a model over the labelled samples of a loader, in eval mode, which is restored afterwards.

    Example:
        >>> from tutelage.tasks import Classification
        >>> batches = [(torch.zeros(2, 3), torch.tensor([0, 1]))]
        >>> answer(nn.Linear(3, 2), Classification(2), batches).kept["prob"].shape
        torch.Size([2, 2])
    """
    model.to(device)
    with evaluating(model):
        return collect(
            lambda batch: task.call(model, dataclasses.replace(batch, inputs=batch.inputs.to(device))), task, batches
        )


def read_answers(record: Record, task: Task, batches: Iterable[Any]) -> Answers:
    """The same of a model whose answers are on disk: nothing runs."""
    return collect(lambda batch: record.rows(batch.index, batch.view)[""], task, batches)


def fresh_metrics(task: Task) -> dict[str, Any]:
    """The task's metrics, over what this process has seen: every process that scores a slice sees all of it."""
    metrics = dict(task.metrics())
    for metric in metrics.values():
        metric.distributed_available_fn = _alone
    return metrics


def _alone() -> bool:
    return False


@torch.no_grad()
def collect(ask: Callable[[Batch], Tensor], task: Task, batches: Iterable[Any]) -> Answers:
    """What is said of the labelled samples of a loader, by whatever answers a batch."""
    kept: dict[str, list[Tensor]] = {}
    indices, began, metrics = [], time.perf_counter(), fresh_metrics(task)
    for raw in batches:
        batch = task.unpack(raw)
        known = batch.labelled
        prediction, target = task.predict(ask(batch)).cpu()[known], batch.target[known]
        for name, values in task.keep_beside(prediction, target, batch.inputs[known]).items():
            kept.setdefault(name, []).append(values)
        for metric in metrics.values() if len(target) else ():
            metric.update(prediction, target)
        indices.append(batch.index[known])
    seconds = time.perf_counter() - began
    found = {name: float(metric.compute()) for name, metric in metrics.items()} if any(map(len, indices)) else {}
    return Answers({name: torch.cat(each) for name, each in kept.items()}, found, torch.cat(indices), seconds)
