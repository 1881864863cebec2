"""Classification: one class for each sample."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.data import open_data
from tutelage.errors import DataError, InputError, MissingExtra
from tutelage.ledger import BASE, Batch, Outputs
from tutelage.losses.temperature import softness

from .base import Kept, Task, finite, read
from .permuted import permuted

CONFUSION = 100
"""The confusion matrix is left out for more classes than this."""


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
    reader = staticmethod(open_data)
    features = 8.0

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
        return raw if isinstance(raw, Batch) else Batch(**read(raw))

    def fits(self, output: Any, inputs: Tensor, columns: int | None) -> str | None:
        """Logits ``[B, C]``."""
        found = list(output.shape) if isinstance(output, Tensor) else []
        if len(found) == 2 and columns in (None, found[1]):
            return None
        return f"logits {[len(inputs), 'classes' if columns is None else columns]}"

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

    def keep(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Probabilities and class of each sample."""
        return {"prob": prediction, "target": target}

    def score(self, kept: Kept) -> Tensor:
        """1 where the likeliest class is the right one, else 0."""
        prob = kept["prob"]
        if prob.shape[1] != len(self.classes):
            raise DataError(
                f"expected {len(self.classes)} classes from the model, found {prob.shape[1]}. "
                "Was the model made for other data?"
            )
        return (prob.argmax(dim=1) == kept["target"]).float()

    def groups(self, kept: Kept) -> Tensor | None:
        """The class of each sample."""
        return kept["target"]

    def suspect(self, name: str, kept: Kept) -> str | None:
        """Answers that are no numbers, classes in another order, or no more hits than the commonest class has."""
        return finite(name, kept["prob"]) or permuted(name, self._confusion(kept)) or self._at_chance(name, kept)

    def softness(self, kept: Kept) -> Mapping[float, float]:
        """Of its probabilities."""
        return softness(kept["prob"].clamp(min=1e-12).log())

    def describe(self, kept: Kept, student: Kept | None = None) -> dict[str, Any]:
        """Likelihood, accuracy of each class, confusion (up to `CONFUSION` classes), agreement with the student."""
        table, predicted = self._confusion(kept), kept["prob"].argmax(dim=1)
        totals = table.sum(dim=1)
        per_class = (table.diag() / totals.clamp(min=1)).tolist()
        true_prob = kept["prob"].gather(1, kept["target"][:, None])[:, 0]
        same = None if student is None else predicted == student["prob"].argmax(dim=1)
        return {
            "nll": float(-true_prob.clamp(min=1e-12).log().mean()),
            "per_class": [value if count else None for value, count in zip(per_class, totals.tolist(), strict=True)],
            "confusion": table.tolist() if len(self.classes) <= CONFUSION else None,
            "agreement": None if same is None else float(same.float().mean()),
        }

    def compact(self, model: str, kept: Kept) -> dict[str, Tensor]:
        """The class it chose, how sure it was, and what it gave the true class."""
        confidence, prediction = kept["prob"].max(dim=1)
        return {
            "target": kept["target"],
            f"{model}/prediction": prediction.to(torch.int32),
            f"{model}/confidence": confidence.half(),
            f"{model}/true_prob": kept["prob"].gather(1, kept["target"][:, None])[:, 0].half(),
        }

    def distance(self, student: Kept, teachers: list[Kept]) -> Tensor:
        """Of the student's probabilities from the teachers' mean."""
        together = torch.stack([teacher["prob"] for teacher in teachers]).mean(dim=0)
        return (student["prob"] - together).abs().sum(dim=1)

    def _confusion(self, kept: Kept) -> Tensor:
        """How many samples of each class (rows) are taken for each (columns)."""
        classes = len(self.classes)
        pairs = kept["target"] * classes + kept["prob"].argmax(dim=1)
        return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def _at_chance(self, name: str, kept: Kept) -> str | None:
        """A message where the accuracy could be that of always naming the commonest class."""
        accuracy, n = float(self.score(kept).mean()), len(kept["target"])
        chance = float(torch.bincount(kept["target"]).max()) / n
        limit = chance + 3 * math.sqrt(chance * (1 - chance) / n)
        if accuracy > limit:
            return None
        return (
            f"teacher {name!r}: expected an accuracy above chance on the selection split (over {limit:.3f}), found "
            f"{accuracy:.3f}. Check its weights, its normalisation and its classes."
        )
