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
from tutelage.tasks.base import Task


@dataclass(frozen=True)
class Answers:
    """A model's predictions on a slice, on the CPU.

    Args:
        prediction: ``[N, ...]``; for classes, probabilities ``[N, C]``.
        target: ``[N, ...]``.
        index: Numbers of the samples, ``[N]``.
        seconds: How long the model took.
    """

    prediction: Tensor
    target: Tensor
    index: Tensor
    seconds: float

    def scores(self, task: Task) -> Tensor:
        """How good each prediction is, ``[N]``."""
        return task.score(self.prediction, self.target)

    def metrics(self, task: Task) -> dict[str, float]:
        """The task's metrics over the slice."""
        found = {}
        for name, metric in task.metrics().items():
            metric.update(self.prediction, self.target)
            found[name] = float(metric.compute())
        return found


def answer(model: nn.Module, task: Task, batches: Iterable[Any], *, device: torch.device | str = "cpu") -> Answers:
    """Run a model over the labelled samples of a loader, in eval mode, which is restored afterwards.

    Example:
        >>> from tutelage.tasks import Classification
        >>> batches = [(torch.zeros(2, 3), torch.tensor([0, 1]))]
        >>> answer(nn.Linear(3, 2), Classification(2), batches).prediction.shape
        torch.Size([2, 2])
    """
    training = model.training
    model.eval().to(device)
    found = _collect(
        lambda batch: task.call(model, dataclasses.replace(batch, inputs=batch.inputs.to(device))), task, batches
    )
    model.train(training)
    return found


def read_answers(record: Record, task: Task, batches: Iterable[Any]) -> Answers:
    """The same of a model whose answers are on disk: nothing runs."""
    return _collect(lambda batch: record.rows(batch.index, batch.view)[""], task, batches)


@torch.no_grad()
def _collect(ask: Callable[[Batch], Tensor], task: Task, batches: Iterable[Any]) -> Answers:
    predictions, targets, indices, began = [], [], [], time.perf_counter()
    for raw in batches:
        batch = task.unpack(raw)
        known = batch.labelled
        predictions.append(task.predict(ask(batch)).cpu()[known])
        targets.append(batch.target[known])
        indices.append(batch.index[known])
    seconds = time.perf_counter() - began
    return Answers(torch.cat(predictions), torch.cat(targets), torch.cat(indices), seconds)


def describe_answers(
    answers: Answers, task: Task, student: Answers | None = None, *, confusion_up_to: int = 100
) -> dict[str, Any]:
    """Figures of one model for the report: metrics, likelihood, per-class accuracy, confusion, agreement.

    Args:
        answers: The model's answers.
        task: The task.
        student: The student's answers to the same samples, for the agreement.
        confusion_up_to: The confusion matrix is left out for more classes than this.
    """
    classes = len(task.classes)
    predicted = answers.prediction.argmax(dim=1)
    pairs = torch.bincount(answers.target * classes + predicted, minlength=classes * classes)
    table = pairs.reshape(classes, classes)
    totals = table.sum(dim=1)
    true_prob = answers.prediction.gather(1, answers.target[:, None])[:, 0]
    per_class = (table.diag() / totals.clamp(min=1)).tolist()
    return {
        **answers.metrics(task),
        "nll": float(-true_prob.clamp(min=1e-12).log().mean()),
        "per_class": [value if count else None for value, count in zip(per_class, totals.tolist(), strict=True)],
        "confusion": table.tolist() if classes <= confusion_up_to else None,
        "agreement": None if student is None else float((predicted == student.prediction.argmax(dim=1)).float().mean()),
    }


def compact(answers: Mapping[str, Answers]) -> dict[str, Tensor]:
    """Per sample and model, the class it chose, how sure it was, and what it gave the true class."""
    first = next(iter(answers.values()))
    tensors = {"target": first.target, "index": first.index}
    for name, said in answers.items():
        confidence, prediction = said.prediction.max(dim=1)
        tensors[f"{name}/prediction"] = prediction.to(torch.int32)
        tensors[f"{name}/confidence"] = confidence.half()
        tensors[f"{name}/true_prob"] = said.prediction.gather(1, said.target[:, None])[:, 0].half()
    return tensors


def most_disagreed(student: Answers, teachers: Iterable[Answers], most: int = 24) -> Tensor:
    """Positions of the samples on which the student is farthest from its teachers' mean, farthest first."""
    together = torch.stack([teacher.prediction for teacher in teachers]).mean(dim=0)
    distance = (student.prediction - together).abs().sum(dim=1)
    return distance.topk(min(most, len(distance))).indices
