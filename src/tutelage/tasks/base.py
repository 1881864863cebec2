"""Task: all that differs between tasks."""

import abc
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tutelage.ledger import BASE, Batch, Outputs


class Task(abc.ABC):
    """How to read a batch, run a model on it, what its own loss is, and how well it did.

    Attributes:
        name: The task's name in recipes and results.
        metric: Name of the main metric.
        higher_is_better: Whether a larger metric is better.
        base_rows: Names of the rows that `base_loss` writes.
        classes: Names of the classes; empty if there are none.
    """

    name: str
    metric: str
    higher_is_better: bool = True
    base_rows: tuple[str, ...] = (BASE,)
    classes: tuple[str, ...] = ()

    @abc.abstractmethod
    def unpack(self, raw: Any) -> Batch:
        """A `Batch` from what a loader gives: a mapping with its fields, or ``(inputs, target)``."""

    def call(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run a model on a batch, with the model's own normalisation, size and class order."""
        preprocess = getattr(model, "preprocess", None)
        if preprocess is None:
            output: Tensor = model(batch.inputs)
            return output
        arranged: Tensor = preprocess.arrange(model(preprocess(batch.inputs)))
        return arranged

    @abc.abstractmethod
    def base_loss(self, outputs: Outputs, batch: Batch) -> Mapping[str, Tensor]:
        """The task's own losses, ``{row: [B]}``; 0 where a sample is not labelled."""

    @abc.abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """Predictions from a model's output: for classes, probabilities ``[B, C]``."""

    @abc.abstractmethod
    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """How good each prediction is, ``[B]``; its mean is the main metric."""

    @abc.abstractmethod
    def metrics(self) -> Mapping[str, Any]:
        """Fresh torchmetrics by name, fed with ``(prediction, target)``; the main one first."""
