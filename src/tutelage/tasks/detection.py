"""Object detection: boxes, each with a class."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.augment_boxes import NO_BOX
from tutelage.data.open_boxes import looks_like_boxes, open_boxes
from tutelage.data.own_boxes import gives_boxes
from tutelage.errors import DataError, RecipeError
from tutelage.ledger import Batch, Outputs
from tutelage.models import detectors
from tutelage.models.candidates import Candidates
from tutelage.survey import Site
from tutelage.taps import inner

from .average_precision import NUMBERS, average_precision, matched, numbers, overlaps
from .base import Kept, Task, read
from .box_doubt import box_doubt

NAMES = (
    "mAP",
    "mAP50",
    "mAP75",
    "mAP_small",
    "mAP_medium",
    "mAP_large",
    *(name.replace("mar", "mAR") for name in NUMBERS[6:]),
)
"""What the twelve numbers of COCO are called in results."""

SURE = 0.3
"""Boxes with at least this score are drawn, and compared between models."""
FGD_OF: Mapping[str, Mapping[str, float]] = {
    "fcos": {"objects": 1.6e-3, "background": 8e-4, "attention": 8e-4, "context": 8e-6, "temperature": 0.8},
    "rcnn": {"objects": 5e-5, "background": 2.5e-5, "attention": 5e-5, "context": 5e-7},
}
"""Published settings of `losses.FGD` by the student's family, where they are not its defaults."""


class Detection(Task):
    """Boxes, each with a class; models are detectors of torchvision (FCOS, RetinaNet, SSD, Faster R-CNN).

    While it trains, a model answers with its own losses, ``[B, 2]``: they are the base rows `classification` and
    `boxes`. Else it answers with what it finds, ``[B, D, 6]`` (see `models.detectors.detections`): so do teachers.

    The main metric is the mean over classes and overlaps of the average precision, as COCO defines it. The verdict
    matches boxes once and computes the metric anew for every resample of pictures.

    Args:
        classes: How many classes, or their names; the background is none of them.

    Example:
        >>> task = Detection(["cell"])
        >>> batch = task.unpack((torch.rand(1, 3, 32, 32), torch.tensor([[[2.0, 2.0, 20.0, 9.0, 0.0]]])))
        >>> batch.target.shape, task.base_loss({"": torch.tensor([[0.5, 0.25]])}, batch)
        (torch.Size([1, 1, 5]), {'classification': tensor([0.5000]), 'boxes': tensor([0.2500])})
    """

    name = "detection"
    metric = NAMES[0]
    base_rows = detectors.LOSSES
    in_eval = False
    of_class = "average precision"
    answers = detectors.HEADS
    reader = staticmethod(open_boxes)

    def __init__(self, classes: int | Sequence[str]) -> None:
        self.classes = tuple(str(c) for c in range(classes)) if isinstance(classes, int) else tuple(classes)
        self.parts = average_precision

    @classmethod
    def recognises(cls, source: Any) -> str | None:
        """A folder in the layout of Pascal VOC, COCO or YOLO, or a data set whose first sample holds boxes."""
        if not isinstance(source, str | os.PathLike):
            return f"{type(source).__name__} gives pictures with boxes" if gives_boxes(source) else None
        layout = looks_like_boxes(pathlib.Path(source))
        return None if layout is None else f"{pathlib.Path(source).name} holds {layout}"

    def unpack(self, raw: Any) -> Batch:
        """A `Batch` from ``{"inputs", "target", …}`` or ``(inputs, target)``; pictures without a label show no box.

        Raises:
            DataError: The targets are no boxes.
        """
        if isinstance(raw, Batch):
            return raw
        fields = read(raw)
        if fields["target"].dim() != 3 or fields["target"].shape[2] != 5:
            raise DataError(
                f"expected boxes [B, M, 5] (left, top, right, bottom, class; class -1 pads), found "
                f"{list(fields['target'].shape)}."
            )
        target = fields["target"].float()
        hidden = target.new_tensor([0, 0, 0, 0, NO_BOX])
        return Batch(**fields | {"target": target.where(fields["labelled"][:, None, None], hidden)})

    def call(self, model: nn.Module, batch: Batch) -> Tensor:
        """Losses of a model that trains, boxes of one that does not.

        Raises:
            RecipeError: The model is compiled: it trains in parts, which a compiled one does not have.
        """
        if hasattr(model, "_orig_mod"):
            raise RecipeError("train.compile: detectors cannot be trained compiled. Leave it out.")
        network = inner(model)
        preprocess = getattr(network, "preprocess", None)
        inputs = batch.inputs if preprocess is None else preprocess(batch.inputs)
        if network.training:
            return detectors.losses(network, inputs, batch.target)
        return detectors.detections(network, inputs)

    def fits(self, output: Any, inputs: Tensor, columns: int | None) -> str | None:
        """Boxes, as torchvision gives them or as `call` does."""
        wanted = f"boxes of {'some' if columns is None else columns} classes from a detector of torchvision"
        if isinstance(output, list):
            alike = len(output) == len(inputs) and all({"boxes", "labels", "scores"} <= set(each) for each in output)
            labels = [int(each["labels"].max()) - 1 for each in output if alike and len(each["labels"])]
        else:
            alike = isinstance(output, Tensor) and output.dim() == 3 and output.shape[2] == 6
            labels = [int(output[..., 4].max())] if alike and output.numel() else []
        return None if alike and (columns is None or all(label < columns for label in labels)) else wanted

    def entry(self, model: nn.Module) -> nn.Module:
        """The backbone: it is given the pictures as the network has scaled them."""
        network = inner(model)
        return network.get_submodule("backbone") if detectors.is_detector(network) else network

    def head(self, model: nn.Module) -> nn.Module | None:
        """What follows behind the taps of `crosskd`."""
        return detectors.rest_of_head(inner(model))

    def base_loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The model's own losses; 0 where a picture is not labelled."""
        said = outputs[""].float()
        if said.dim() != 2:
            raise RecipeError("detection: the losses of a model are known only while it trains; it was in eval mode.")
        valid = batch.labelled.to(said)
        scale = valid / valid.mean().clamp(min=1 / len(valid))
        each = torch.where(batch.labelled[:, None], said, 0.0) * scale[:, None]
        return dict(zip(self.base_rows, each.unbind(1), strict=True))

    def doubt(self, output: Tensor, batch: Batch) -> Tensor | None:
        """Minus the log likelihood of the true boxes under those that were found (see `box_doubt`).

        None for a model that trains, which answers with its losses: whether a teacher knows more than the student is
        not known in detection, only which of several knows most.
        """
        return box_doubt(output.float(), batch.target) if output.dim() == 3 else None

    def predict(self, output: Tensor) -> Tensor:
        """The boxes as they are, ``[B, D, 6]``."""
        return output.float()

    def metrics(self) -> dict[str, Any]:
        """The twelve numbers of COCO, from one collection of boxes."""
        collected = _Collected()
        return {name: _Number(collected, number, name == NAMES[0]) for name, number in zip(NAMES, NUMBERS, strict=True)}

    def keep(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The boxes that were found, and those there are."""
        return {"found": prediction, "target": target.float()}

    def score(self, kept: Kept) -> Tensor:
        """What each picture's boxes came to, from which `average_precision` makes the metric."""
        return matched(kept["found"], kept["target"])

    def suspect(self, name: str, kept: Kept) -> str | None:
        """Boxes that are no numbers, or that find next to nothing; or find much more with classes exchanged."""
        if not bool(kept["found"].isfinite().all()):
            return f"teacher {name!r}: expected finite boxes, found NaN or infinity. Check its weights."
        table, weights = self.score(kept), torch.ones(1, len(kept["found"]))
        value = float(average_precision(table, weights).nanmean())
        anyhow = [x.clone() for x in (kept["found"], kept["target"])]
        for boxes in anyhow:
            boxes[..., 4] = boxes[..., 4].clamp(max=0)
        blind = float(average_precision(matched(*anyhow), weights).nanmean())
        if value >= 0.01 and blind < max(0.3, 3 * value):
            return None
        if blind >= max(0.3, 3 * value):
            return (
                f"teacher {name!r}: its mAP here is {value:.3f}, but {blind:.3f} if classes are not looked at: they "
                f"seem to be in another order than {', '.join(self.classes)}."
            )
        return (
            f"teacher {name!r}: expected a mAP of at least 0.01 on the selection split, found {value:.4f}. Check its "
            "weights and its classes, or train it longer."
        )

    def describe(self, kept: Kept, student: Kept | None = None) -> dict[str, Any]:
        """Average precision of each class, and how much of what it is sure of the student says, too."""
        per_class = average_precision(self.score(kept), torch.ones(1, len(kept["found"])))[0].tolist()
        per_class += [math.nan] * (len(self.classes) - len(per_class))
        return {
            "per_class": [None if math.isnan(value) else value for value in per_class],
            "confusion": None,
            "agreement": None if student is None else float(_agreement(kept, student).nanmean().nan_to_num(1.0)),
        }

    def distance(self, student: Kept, teachers: list[Kept]) -> Tensor:
        """Share of the boxes either is sure of that the other does not say, on average over teachers."""
        return 1 - torch.stack([_agreement(teacher, student) for teacher in teachers]).nan_to_num(1.0).mean(dim=0)

    def panels(self, pictures: Tensor, said: Mapping[str, Kept]) -> dict[str, Tensor]:
        """The pictures with boxes drawn on them, a colour for each class."""
        first = next(iter(said.values()))
        drawn = {"truth": first["target"]} | {name: kept["found"] for name, kept in said.items()}
        return {
            name: torch.stack([self._drawn(*two) for two in zip(pictures, boxes, strict=True)])
            for name, boxes in drawn.items()
        }

    def agree(self, found: Tensor, expected: Tensor) -> float:
        """Share of candidates of an exported file with the same likeliest class."""
        return float((found[..., 4:].argmax(2) == expected[..., 4:].argmax(2)).double().mean())

    def _drawn(self, picture: Tensor, boxes: Tensor) -> Tensor:
        from torchvision.utils import draw_bounding_boxes

        sure = boxes[(boxes[:, 4] >= 0) & (boxes[:, 5] >= SURE if boxes.shape[1] > 5 else True)]
        shown = picture.expand(3, -1, -1).contiguous()
        if not len(sure):
            return shown
        colours = [COLOURS[int(label) % len(COLOURS)] for label in sure[:, 4]]
        drawn: Tensor = draw_bounding_boxes(shown, sure[:, :4], colors=colours, width=max(1, shown.shape[2] // 160))
        return drawn

    def exported(self, model: nn.Module) -> nn.Module:
        """Candidates before non-maximum suppression; see `models.candidates.Candidates`."""
        return Candidates(model)

    # -- paths

    def usual_paths(self, models: Mapping[str, nn.Module]) -> list[str]:
        """Heads where they can be compared, and the pyramids."""
        teachers = [model for name, model in models.items() if name != "student"]
        alike = any(detectors.same_anchors(inner(models["student"]), inner(teacher)) for teacher in teachers)
        return ["logits", "offsets", "fgd"] if alike else ["fgd"]

    def wires(self, short: str, models: Mapping[str, nn.Module], sites: Mapping[str, Mapping[str, Site]]) -> Any:
        """The paths of a short name or a loss between the heads or the pyramids; None if it has none there."""
        student, teachers = models["student"], {name: model for name, model in models.items() if name != "student"}
        if short in ("logits", "offsets", "anchor_classes", "anchor_boxes"):
            return _heads(short, student, teachers)
        if short == "crosskd":
            return _across(student, teachers, sites)
        if short in ("features", "imitation", "cwd", "mgd", "attention", "similarity", "fgd"):
            return _pyramids(short, student, teachers, sites)
        return None


COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#42d4f4", "#f032e6", "#ffe119", "#469990", "#9a6324", "#bfef45")


def _heads(short: str, student: nn.Module, teachers: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Between the heads of detectors with the same anchors."""
    alike = [name for name, teacher in teachers.items() if detectors.same_anchors(inner(student), inner(teacher))]
    if not alike:
        return {}
    classes, offsets = detectors.heads(inner(student)) or ("", "")
    scores = "sigmoid" if detectors.sigmoid(inner(student)) else "softmax"
    if short in ("logits", "anchor_classes"):
        wire: dict[str, Any] = {"loss": {"use": "anchor_classes", "scores": scores}}
        wire |= {"student": classes, "teacher": classes}
    else:
        wire = {"loss": {"use": "anchor_boxes", "scores": scores}, "student": offsets, "teacher": [offsets, classes]}
    return {short: {**wire, "teachers": alike, "connector": None}}


def _across(
    student: nn.Module, teachers: Mapping[str, nn.Module], sites: Mapping[str, Mapping[str, Site]]
) -> dict[str, dict[str, Any]]:
    """From inside the student's head through those of teachers whose pyramids have the same strides."""
    strides = {name: [_octave(sites[name][tap]) for tap in detectors.levels(inner(model)) if tap in sites[name]]
               for name, model in {"student": student, **teachers}.items()}  # fmt: skip
    inside = {
        name: detectors.inside_head(inner(teacher))
        for name, teacher in teachers.items()
        if detectors.same_levels(inner(student), inner(teacher)) and strides[name] == strides["student"]
    }
    if not inside:
        return {}
    width = detectors.head_width(inner(student))
    other = {name: [{"use": "project"}] for name in inside if detectors.head_width(inner(teachers[name])) != width}
    wire = {"loss": {"use": "crosskd"}, "student": detectors.inside_head(inner(student)), "teacher": inside}
    return {"crosskd": {**wire, "teachers": list(inside), "connector": other or None}}


def _pyramids(
    short: str, student: nn.Module, teachers: Mapping[str, nn.Module], sites: Mapping[str, Mapping[str, Site]]
) -> dict[str, dict[str, Any]]:
    """Between levels of the same stride, coarse or fine."""
    ours = {tap: sites["student"][tap] for tap in detectors.levels(inner(student)) if tap in sites["student"]}
    by_level: dict[str, dict[str, str]] = {}
    for name, teacher in teachers.items():
        theirs = {tap: sites[name][tap] for tap in detectors.levels(inner(teacher)) if tap in sites[name]}
        at: dict[int, list[str]] = {}
        for tap, site in theirs.items():
            at.setdefault(_octave(site), []).append(tap)
        for tap, site in ours.items():
            if same := at.get(_octave(site)):
                by_level.setdefault(tap, {})[name] = same.pop(0)
    loss: dict[str, Any] = {"use": "mse", "standardise": True} if short == "features" else {"use": short}
    if short == "mgd":
        loss |= {"ratio": 0.65}
    if short == "fgd":
        loss |= {"normalise": True, **FGD_OF.get(detectors.family(inner(student)) or "", {})}
    if short != "fgd":
        return {
            f"{short}_{number}": {"loss": loss, "student": tap, "teacher": taps}
            for number, (tap, taps) in enumerate(by_level.items())
        }
    # Of several teachers, the levels that all have whose pyramid meets the student's at all.
    heard = [name for name in teachers if any(name in taps for taps in by_level.values())]
    shared = [tap for tap in ours if heard and len(by_level.get(tap, ())) == len(heard)]
    if not shared:
        return {}
    taps = {name: [by_level[tap][name] for tap in shared] for name in heard}
    return {short: {"loss": loss, "student": shared, "teacher": taps, "teachers": heard}}


def _octave(site: Site) -> int:
    """The power of two its stride stands for."""
    return round(math.log2(site.stride)) if site.stride else 0


def _agreement(one: Kept, other: Kept) -> Tensor:
    """Of the boxes that either is sure of, the share that both say (of one class, overlapping by half), ``[N]``."""
    shares = []
    for mine, its in zip(one["found"], other["found"], strict=True):
        sure = [boxes[(boxes[:, 4] >= 0) & (boxes[:, 5] >= SURE)] for boxes in (mine, its)]
        total = len(sure[0]) + len(sure[1])
        if not total:
            shares.append(torch.nan)
            continue
        same = (overlaps(sure[0][:, :4], sure[1][:, :4]) >= 0.5) & (sure[0][:, None, 4] == sure[1][None, :, 4])
        shares.append(float(same.any(dim=1).sum() + same.any(dim=0).sum()) / total)
    return torch.tensor(shares)


class _Collected:
    """Boxes as they come in, and the twelve numbers of all of them."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []
        self.target: list[Tensor] = []
        self.numbers: dict[str, float] | None = None

    def add(self, prediction: Tensor, target: Tensor) -> None:
        self.found.append(prediction.detach().cpu())
        self.target.append(target.detach().cpu())
        self.numbers = None

    def read(self) -> dict[str, float]:
        if self.numbers is None:
            self.numbers = numbers(torch.cat(self.found), torch.cat(self.target))
        return self.numbers


class _Number:
    """One of the twelve, in the shape of a metric of torchmetrics; the first of them collects for all."""

    def __init__(self, collected: _Collected, name: str, collects: bool) -> None:
        self._collected, self._name, self._collects = collected, name, collects

    def to(self, device: Any) -> "_Number":
        return self

    def update(self, prediction: Tensor, target: Tensor) -> None:
        if self._collects:
            self._collected.add(prediction, target)

    def compute(self) -> Tensor:
        return torch.tensor(self._collected.read()[self._name])
