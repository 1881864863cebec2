"""Average precision of boxes: matched once, so that it can be computed again for any choice of pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.errors import MissingExtra

THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Overlaps (intersection over union) from which a box is found, as in COCO."""

RECALLS: tuple[float, ...] = tuple(np.linspace(0, 1, 101).tolist())
"""Where precision is read, as in COCO."""

MOST = 100
"""Boxes of one class that count in one picture, as in COCO."""

NUMBERS = (
    *("map", "map_50", "map_75", "map_small", "map_medium", "map_large"),
    *("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"),
)
"""The twelve numbers of COCO, as torchmetrics calls them."""


def matched(prediction: Tensor, target: Tensor) -> Tensor:
    """Which detections found a box, picture by picture.

    Args:
        prediction: ``[N, D, 6]``: left, top, right, bottom, class, score; class -1 pads.
        target: ``[N, M, 5]``: left, top, right, bottom, class; class -1 pads.

    Returns:
        ``[N, D + M, 12]``, a row for each detection and then one for each box: class, score, and whether it was found
        at each of `THRESHOLDS`. Boxes have the score -1; class -1 pads.
    """
    detections, boxes = prediction.shape[1], target.shape[1]
    table = np.zeros((len(prediction), detections + boxes, 2 + len(THRESHOLDS)), dtype=np.float32)
    table[:, :, 0] = -1
    table[:, detections:, 0] = target[:, :, 4]
    table[:, detections:, 1] = -1
    for rows, found, truth in zip(table, prediction.double().numpy(), target.double().numpy(), strict=True):
        for label in np.unique(found[found[:, 4] >= 0, 4]):
            mine = np.flatnonzero(found[:, 4] == label)
            mine = mine[np.argsort(-found[mine, 5], kind="stable")][:MOST]
            rows[mine, 0], rows[mine, 1] = label, found[mine, 5]
            rows[mine, 2:] = _matched(found[mine, :4], truth[truth[:, 4] == label, :4])
    return torch.from_numpy(table)


def average_precision(table: Tensor, weights: Tensor) -> Tensor:
    """Average precision of each class, the mean over thresholds, when pictures count differently often.

    Args:
        table: From `matched`, ``[N, R, 12]``.
        weights: How often each picture counts, ``[S, N]``.

    Returns:
        ``[S, K]`` in [0, 1], a column for each class up to the last that has a box; NaN where a class has none.

    Reference:
        Lin et al. 2014, arXiv:1405.0312, and its evaluation code: precision at 101 recalls, made to fall with recall.
    """
    table, weights = table.double(), weights.double()  # whether a recall is reached is decided in the last digit
    is_box = table[..., 1] < 0
    classes = int(table[..., 0][is_box].max()) + 1 if bool(is_box.any()) else 0
    found = torch.full((len(weights), max(1, classes)), torch.nan, dtype=torch.float64)
    for label in range(classes):
        ours = table[..., 0] == label
        boxes = weights @ (ours & is_box).sum(dim=1).double()
        picture, row = (ours & ~is_box).nonzero().unbind(1)
        order = table[picture, row, 1].argsort(descending=True, stable=True)
        picture, hits = picture[order], table[picture, row, 2:][order].T
        at_once = max(1, 2**22 // max(1, hits.numel()))
        for some in torch.split(torch.arange(len(weights)), at_once):
            found[some, label] = _precision(hits, weights[some][:, picture], boxes[some].clamp(min=1))
        found[:, label] = found[:, label].where(boxes > 0, torch.nan)
    return found


def numbers(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """The twelve numbers of COCO (`NUMBERS`); -1 where there is no such box. Areas are in pixels of the pictures.

    Raises:
        MissingExtra: torchmetrics or faster-coco-eval is not installed.
    """
    try:
        import faster_coco_eval  # noqa: F401
        from torchmetrics.detection import MeanAveragePrecision
    except ImportError as error:
        raise MissingExtra("mAP needs faster-coco-eval: pip install 'tutelage[detection]'") from error
    # Its own thresholds are those of COCO in single precision, which moves some.
    metric: Any = MeanAveragePrecision(
        backend="faster_coco_eval", iou_thresholds=list(THRESHOLDS), rec_thresholds=list(RECALLS)
    )
    metric.warn_on_many_detections = False
    found = [_as_mapping(boxes[boxes[:, 4] >= 0]) for boxes in prediction]
    metric.update(found, [_as_mapping(boxes[boxes[:, 4] >= 0]) for boxes in target])
    computed: Mapping[str, Tensor] = metric.compute()
    return {name: float(computed[name]) for name in NUMBERS}


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes ``[n, 4]`` with boxes ``[m, 4]``, ``[n, m]``."""
    from torchvision.ops import box_iou

    shared: Tensor = box_iou(one, other)
    return shared


def _as_mapping(boxes: Tensor) -> dict[str, Tensor]:
    said = {"boxes": boxes[:, :4].float(), "labels": boxes[:, 4].long()}
    return said | ({"scores": boxes[:, 5].float()} if boxes.shape[1] > 5 else {})


def _matched(found: Any, truth: Any) -> Any:
    """Whether each detection, best first, takes a box that none before it took, at each threshold."""
    hits = np.zeros((len(found), len(THRESHOLDS)), dtype=np.float32)
    if not len(truth):
        return hits
    overlap = overlaps(torch.from_numpy(found), torch.from_numpy(truth)).numpy()
    for column, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(truth), dtype=bool)
        for row in np.flatnonzero(overlap.max(axis=1) >= threshold):
            best = np.where(free, overlap[row], -1)
            take = len(best) - 1 - int(np.argmax(best[::-1]))  # of equals the last, as there
            if best[take] >= min(threshold, 1 - 1e-10):
                free[take], hits[row, column] = False, 1
    return hits


def _precision(hits: Tensor, weights: Tensor, boxes: Tensor) -> Tensor:
    """Average precision of one class, meaned over thresholds, ``[S]``.

    Args:
        hits: ``[T, P]``, detections in falling order of their scores.
        weights: How often each detection is in each choice, ``[S, P]``.
        boxes: How many boxes there are, ``[S]``.
    """
    if not hits.shape[1]:
        return torch.zeros_like(boxes)
    right = (weights[:, None] * hits).cumsum(dim=2)
    recall = right / boxes[:, None, None]
    precision = right / weights.cumsum(dim=1).clamp(min=1e-9)[:, None]
    precision = precision.flip(2).cummax(dim=2).values.flip(2)
    wanted = hits.new_tensor(RECALLS).expand(*recall.shape[:2], 101)
    places = torch.searchsorted(recall.contiguous(), wanted.contiguous())
    inside = places < hits.shape[1]
    values = precision.gather(2, places.clamp(max=hits.shape[1] - 1))
    return torch.where(inside, values, 0.0).mean(dim=(1, 2))
