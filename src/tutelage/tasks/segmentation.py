"""Semantic segmentation: one class for each pixel."""

import colorsys
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.data import open_masks
from tutelage.data.augment_masks import IGNORED
from tutelage.data.mask_files import find_pairs
from tutelage.errors import InputError, MissingExtra
from tutelage.ledger import BASE, Batch, Outputs
from tutelage.verdict import judge, value

from .base import Kept, Task, read
from .permuted import permuted

HIT, SAID, TRUE = range(3)
"""Columns of the counts of a class in a picture: pixels that are of it and are said to be, said to be, and are."""


class Segmentation(Task):
    """One class for each pixel; its own loss is the cross-entropy over pixels that have a class.

    The main metric is the mean over classes of intersection over union, counted over the whole split (classes that are
    nowhere and nobody claims are left out). The verdict counts anew for every resample of pictures.

    Whatever the stride of a model's output, it is brought to the grid of the pictures (bilinear), where student and
    teachers meet each other and the truth.

    Args:
        classes: How many classes, or their names.
        class_weights: Weight of the pixels of each class, above 0, in the loss and in those of single predictions (`kl`
            and its like), so that what teachers say of rare classes counts as the truth does; None for 1.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        teach_ignored: Let teachers teach on pixels that have no class, too. The losses of single predictions (`kl` and
            its like) leave them out otherwise; of pictures without a label all pixels are taught.
        boundary: How many times as much the pixels at which classes meet weigh in the losses of single predictions,
            above 0.

    Raises:
        InputError: There is not one positive weight for each class, or `boundary` is not above 0.

    Example:
        >>> task = Segmentation(2)
        >>> batch = task.unpack((torch.rand(1, 3, 2, 2), torch.tensor([[[0, 1], [1, 255]]])))
        >>> task.base_loss({"": torch.zeros(1, 2, 2, 2)}, batch)["base"]
        tensor([0.6931])
    """

    name = "segmentation"
    metric = "miou"
    of_class = "IoU"
    reader = staticmethod(open_masks)
    defaults: ClassVar[Mapping[str, Any]] = {
        "paths": {"logits": {"loss": {"use": "kl", "temperature": 1}}, "channels": {"loss": "cwd"}},
        "data": {"batch_size": 8},
        "train": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-2},
    }

    def __init__(
        self,
        classes: int | Sequence[str],
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        teach_ignored: bool = False,
        boundary: float = 1.0,
    ) -> None:
        names = [str(c) for c in range(classes)] if isinstance(classes, int) else classes
        self.classes = tuple(names)
        if not boundary > 0:
            raise InputError(f"Segmentation: expected boundary above 0, found {boundary}.")
        self.label_smoothing, self.teach_ignored, self.boundary = label_smoothing, teach_ignored, boundary
        if class_weights is not None and (len(class_weights) != len(self.classes) or not min(class_weights) > 0):
            raise InputError(
                f"Segmentation: expected class_weights above 0 for each of the {len(self.classes)} classes, found "
                f"{list(class_weights)}."
            )
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.parts = iou

    @classmethod
    def recognises(cls, source: Any) -> str | None:
        """A folder of pictures with masks."""
        if not isinstance(source, str | os.PathLike):
            return None
        found = find_pairs(pathlib.Path(source))
        return None if found is None else f"{pathlib.Path(source).name}/ holds {found[0]}"

    def unpack(self, raw: Any) -> Batch:
        """A `Batch` from ``{"inputs", "target", …}`` or ``(inputs, target)``; targets become int64 ``[B, H, W]``.

        A target of 255, or below 0, is a pixel without a class; a picture of none but such is not labelled. Pictures
        without a label have no pixel with a class.
        """
        if isinstance(raw, Batch):
            return raw
        fields = read(raw)
        target = fields["target"].long()
        target = target.where((target >= 0) & fields["labelled"][:, None, None], IGNORED)
        valid = target != IGNORED
        labelled = valid.any((1, 2))
        extras = {} if self.teach_ignored else {"mask": valid | ~labelled[:, None, None]}
        if self.boundary != 1 or self.class_weights is not None:
            extras["element_weight"] = self._weight(target)
        extras = fields["extras"] | extras
        return Batch(**fields | {"target": target, "labelled": labelled, "extras": extras})

    def finish(self, output: Tensor, inputs: Tensor) -> Tensor:
        """Logits ``[B, C, H, W]`` on the grid of the pictures."""
        if output.shape[-2:] == inputs.shape[-2:]:
            return output
        wide = output.float() if output.dtype.itemsize < 4 else output  # the CPU resizes no half precision
        return F.interpolate(wide, inputs.shape[-2:], mode="bilinear", align_corners=False).to(output.dtype)

    def fits(self, output: Any, inputs: Tensor, columns: int | None) -> str | None:
        """Maps of logits ``[B, C, h, w]``."""
        found = list(output.shape) if isinstance(output, Tensor) else []
        if len(found) == 4 and columns in (None, found[1]):
            return None
        return f"maps of logits {[len(inputs), 'classes' if columns is None else columns, 'h', 'w']}"

    def base_loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy; scaled so that the batch mean is the mean over labelled pixels (by their weights)."""
        logits, valid = outputs[""].float(), (batch.target != IGNORED) & batch.labelled[:, None, None]
        target = batch.target.where(valid, IGNORED)
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        options: dict[str, Any] = {"ignore_index": IGNORED, "label_smoothing": self.label_smoothing}
        each = F.cross_entropy(logits, target, weights, reduction="none", **options).flatten(1).sum(dim=1)
        count = (valid if weights is None else weights[target.where(valid, 0)] * valid).float().flatten(1).sum(dim=1)
        return {BASE: each / count.mean().clamp(min=torch.finfo(each.dtype).tiny)}

    def predict(self, output: Tensor) -> Tensor:
        """The likeliest class of each pixel, int64 ``[B, H, W]``."""
        return output.argmax(dim=1)

    def metrics(self) -> dict[str, Any]:
        """Mean IoU, and the share of pixels whose class is right; both over pixels that have a class."""
        try:
            from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
        except ImportError as error:
            raise MissingExtra("metrics need torchmetrics: pip install 'tutelage[train]'") from error
        classes = len(self.classes)
        options: dict[str, Any] = {"ignore_index": IGNORED, "validate_args": False}
        return {
            "miou": MulticlassJaccardIndex(classes, average="macro", **options),
            "pixel_accuracy": MulticlassAccuracy(classes, average="micro", **options),
        }

    def keep(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Counts of each picture, int32 ``[B, C, 3]``, and the masks of answer and truth, uint8 ``[B, H, W]``."""
        classes, valid = len(self.classes), target != IGNORED
        hits = prediction.where(valid & (prediction == target), classes)
        columns = [_count(each.where(valid, classes), classes) for each in (hits, prediction, target)]
        return {
            "counts": torch.stack(columns, dim=2).to(torch.int32),
            "said": prediction.to(torch.uint8),
            "target": target.to(torch.uint8),
        }

    def score(self, kept: Kept) -> Tensor:
        """The counts of each picture, from which `iou` makes the metric."""
        return kept["counts"].float()

    def suspect(self, name: str, kept: Kept) -> str | None:
        """Classes in another order, or a mean IoU that classes laid anywhere may reach as well."""
        return permuted(name, self._confusion(kept)) or self._at_chance(name, kept)

    def describe(self, kept: Kept, student: Kept | None = None) -> dict[str, Any]:
        """IoU of each class, confusion of pixels, and the share of pixels on which it agrees with the student."""
        per_class = iou(self.score(kept), torch.ones(1, len(kept["counts"])))[0]
        valid = kept["target"] != IGNORED
        same = None if student is None else float((kept["said"] == student["said"])[valid].float().mean())
        return {
            "per_class": [None if math.isnan(value) else value for value in per_class.tolist()],
            "confusion": self._confusion(kept).tolist() if len(self.classes) <= 100 else None,
            "agreement": same,
        }

    def compact(self, model: str, kept: Kept) -> dict[str, Tensor]:
        """The counts of each picture."""
        return {f"{model}/counts": kept["counts"]}

    def distance(self, student: Kept, teachers: list[Kept]) -> Tensor:
        """Share of the labelled pixels on which the student says something else than its teachers, on average."""
        valid = student["target"] != IGNORED
        other = torch.stack([(teacher["said"] != student["said"]) & valid for teacher in teachers]).float().mean(dim=0)
        return other.flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1).clamp(min=1)

    def panels(self, pictures: Tensor, said: Mapping[str, Kept]) -> dict[str, Tensor]:
        """Masks in colours, one for each class; black where the truth has none."""
        colours, first = palette(len(self.classes)), next(iter(said.values()))
        masks = {"truth": first["target"]} | {name: kept["said"] for name, kept in said.items()}
        return {name: colours[mask.long()].permute(0, 3, 1, 2).contiguous() for name, mask in masks.items()}

    def colours(self) -> list[str]:
        """The colour of each class."""
        classes = len(self.classes)
        return ["#" + bytes(colour).hex() for colour in palette(classes)[:classes].tolist()]

    def _weight(self, target: Tensor) -> Tensor:
        """How much a teacher's word counts at each pixel, 1 on average; as its neighbours' where it has no class."""
        weight = torch.ones_like(target, dtype=torch.float32)
        if self.boundary != 1:
            weight = weight + (self.boundary - 1) * edges(target)
        if self.class_weights is not None:
            known = target != IGNORED
            of_class = self.class_weights.to(target.device)[target.where(known, 0)]
            usual = ((of_class * known).sum() / known.sum()).nan_to_num(1.0)
            weight = weight * of_class.where(known, usual)
        return weight / weight.mean()

    def _confusion(self, kept: Kept) -> Tensor:
        """How many pixels of each class (rows) are taken for each (columns)."""
        classes = len(self.classes)
        table = torch.zeros(classes**2, dtype=torch.int64)
        for target, said in zip(kept["target"], kept["said"], strict=True):
            valid = target != IGNORED
            table += torch.bincount(target[valid].long() * classes + said[valid], minlength=classes**2)
        return table.reshape(classes, classes)

    def _at_chance(self, name: str, kept: Kept) -> str | None:
        """A message where the same shares of classes, laid anywhere in each picture, might do as well."""
        counts = self.score(kept)
        anywhere = counts.clone()
        anywhere[..., HIT] = counts[..., SAID] * counts[..., TRUE] / counts[..., TRUE].sum(dim=1, keepdim=True)
        found = judge(counts[None], anywhere[None], parts=iou)
        if found.interval[0] > 0:
            return None
        chance = value(anywhere, iou)
        return (
            f"teacher {name!r}: expected a mean IoU above chance on the selection split (over {chance:.3f}, which its "
            f"own classes laid anywhere would reach), found {chance + found.delta:.3f}. Check its weights, its "
            "normalisation and its classes."
        )


def iou(counts: Tensor, weights: Tensor) -> Tensor:
    """Intersection over union of each class, when pictures count differently often.

    Args:
        counts: Of each picture and class, ``[N, C, 3]``: pixels hit, said and true.
        weights: How often each picture counts, ``[R, N]``.

    Returns:
        ``[R, C]`` in [0, 1]; NaN for a class that is nowhere and nobody claims.

    Example:
        >>> iou(torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]]), torch.ones(1, 1))
        tensor([[0.2500,    nan]], dtype=torch.float64)
    """
    sums = torch.einsum("rn,ncs->rcs", weights.double(), counts.double())
    union = sums[..., SAID] + sums[..., TRUE] - sums[..., HIT]
    return sums[..., HIT] / union.where(union > 0, torch.nan)


def edges(target: Tensor) -> Tensor:
    """Pixels with a class beside a pixel of another class, bool ``[B, H, W]``; pixels without one make no edge.

    Example:
        >>> edges(torch.tensor([[[0, 0, 0, 1, 255, 0]]]))
        tensor([[[False, False,  True,  True, False, False]]])
    """
    known = target != IGNORED
    low, high = (target.where(known, fill).float()[:, None] for fill in (IGNORED, -1))
    least, most = -F.max_pool2d(-low, 3, 1, 1)[:, 0], F.max_pool2d(high, 3, 1, 1)[:, 0]
    return known & (least != most)


def palette(classes: int) -> Tensor:
    """A colour for each class and black for `IGNORED`, uint8 ``[256, 3]``."""
    colours = torch.zeros(256, 3, dtype=torch.uint8)
    for number in range(classes):
        hue, light = (number * 0.618034) % 1, (0.95, 0.7, 0.85)[number % 3]
        colours[number] = torch.tensor([round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, light)])
    colours[IGNORED] = 0
    return colours


def _count(mask: Tensor, classes: int) -> Tensor:
    """How many pixels of each class each mask has, int64 ``[B, C]``; those of class C are left out."""
    shifted = mask.flatten(1) + (classes + 1) * torch.arange(len(mask))[:, None]
    return shifted.flatten().bincount(minlength=(classes + 1) * len(mask)).reshape(len(mask), -1)[:, :classes]
