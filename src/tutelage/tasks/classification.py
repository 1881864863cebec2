"""Classification: one class for each sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.errors import DataError, InputError, MissingExtra
from tutelage.ledger import BASE, Batch, Outputs

from .base import Task


class Classification(Task):
    """One class for each sample; its own loss is the cross-entropy.

    Args:
        classes: How many classes, or their names.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        logit_deviation: The loss sees each sample's logits shifted to mean 0 and scaled to this deviation over the
            classes, as in spherical distillation (2 or 3 there); None: as they are. Predictions are not scaled.

    Raises:
        InputError: The deviation is not above 0.

    Example:
        >>> task = Classification(3)
        >>> batch = task.unpack((torch.rand(2, 1, 4, 4), torch.tensor([2, -1])))
        >>> batch.labelled, task.base_loss({"": torch.zeros(2, 3)}, batch)["base"]
        (tensor([ True, False]), tensor([2.1972, 0.0000]))
    """

    name = "classification"
    metric = "accuracy"

    def __init__(
        self, classes: int | Sequence[str], *, label_smoothing: float = 0.0, logit_deviation: float | None = None
    ) -> None:
        if logit_deviation is not None and not logit_deviation > 0:
            raise InputError(f"Classification: expected a logit_deviation above 0, found {logit_deviation}.")
        names = [str(c) for c in range(classes)] if isinstance(classes, int) else classes
        self.classes = tuple(names)
        self.label_smoothing = label_smoothing
        self.logit_deviation = logit_deviation

    def unpack(self, raw: Any) -> Batch:
        """A `Batch` from ``{"inputs", "target", "index", "view", "labelled"}`` or ``(inputs, target)``.

        Pictures stored as uint8 become floats in [0, 1]. A target below 0 means: not labelled. Without an index,
        samples are numbered within the batch, which no loss or cache that remembers samples can use.
        Whatever else the mapping holds goes into `Batch.extras`.
        """
        if isinstance(raw, Batch):
            return raw
        if not isinstance(raw, Mapping):
            raw = {"inputs": raw[0], "target": raw[1], **({"index": raw[2]} if len(raw) > 2 else {})}
        inputs, target = raw["inputs"], raw["target"]
        if not inputs.is_floating_point():
            inputs = inputs.float().div_(255)
        index = raw.get("index", torch.arange(len(target), device=target.device))
        view = raw.get("view", torch.zeros_like(index))
        known = {"inputs", "target", "index", "view", "labelled"}
        extras = {name: column for name, column in raw.items() if name not in known}
        return Batch(inputs, target, index, view, raw.get("labelled", target >= 0), extras)

    def base_loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy; with unlabelled samples, scaled so that the batch mean is the mean over the labelled."""
        target = batch.target.clamp(min=0)
        logits = outputs[""].float()
        if self.logit_deviation is not None:
            logits = self.logit_deviation * F.layer_norm(logits, logits.shape[1:], eps=1e-7)
        loss = F.cross_entropy(logits, target, reduction="none", label_smoothing=self.label_smoothing)
        valid = batch.labelled.to(loss.dtype)
        return {BASE: loss * valid / valid.mean().clamp(min=1 / len(valid))}

    def predict(self, output: Tensor) -> Tensor:
        """Probabilities, ``[B, C]``."""
        return output.float().softmax(dim=1)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """1 where the likeliest class is the right one, else 0."""
        if prediction.shape[1] != len(self.classes):
            raise DataError(
                f"expected {len(self.classes)} classes from the model, found {prediction.shape[1]}. "
                "Was the model made for other data?"
            )
        return (prediction.argmax(dim=1) == target).float()

    def metrics(self) -> dict[str, Any]:
        """Accuracy over samples, and the expected calibration error in 15 bins."""
        try:
            from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError
        except ImportError as error:
            raise MissingExtra("metrics need torchmetrics: pip install 'tutelage[train]'") from error
        classes = len(self.classes)
        return {
            "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
            "ece": MulticlassCalibrationError(classes, n_bins=15, validate_args=False),
        }
