"""Cross-head distillation: what the teacher's head makes of the student's features should be what it says itself."""

import torch
from torch import Tensor, nn

from tutelage.errors import MissingExtra

from .anchor_classes import anchor_classes
from .anchors import average, objects
from .constant import through
from .maps import levels, need_maps
from .precision import full


def crosskd(
    student: tuple[Tensor, ...],
    teacher: tuple[Tensor, ...],
    /,
    *,
    head: nn.Module,
    classes: float = 1.0,
    boxes: float = 1.0,
    focus: float = 1.0,
) -> Tensor:
    """Class scores and boxes from the rest of the teacher's head, given the student's features, against the teacher's.

    The student's own head, which the labels teach, is left alone behind the taps: the two need not be reconciled there.

    Args:
        student: Features from inside both towers of the head, in front of an activation: maps ``[B, C, H, W]`` of the
            class tower at each level, then those of the box tower.
        teacher: Its features at the same places, of the same shapes (put `connectors.Project` in the path where the
            heads differ in width).
        head: The rest of the teacher's head, from such a tuple to logits ``[B, A, C + 1]`` (column 0 stands empty) and
            boxes ``[B, A, 4]`` (left, top, right, bottom in any unit): of torchvision's dense detectors
            `models.detectors.rest_of_head`. It is used and not trained.
        classes: Weight of the class scores, see `anchor_classes` with ``scores="sigmoid"``.
        boxes: Weight of one minus the generalised overlap of boxes, each as heavy as the teacher's largest score there.
        focus: The exponent of the distance between two class scores; 0 or at least 1.

    Returns:
        ``[B]``, at least 0, and 0 where the features agree: per batch the sum over anchors divided by the sum of the
        teacher's largest scores.

    Raises:
        ValueError: The features differ in number, channels or grid, or a weight is negative.
        MissingExtra: torchvision, which knows the overlap, is not installed.

    Reference:
        Wang et al. 2024, arXiv:2306.11369, eq. 2 to 5, with the weights of its code for FCOS and RetinaNet (1 and 1).
        As there, each channel of the student is brought to the mean and spread of the teacher's, over batch and grid of
        a level. Divided by the teacher's scores where the code divides by what an assigner calls positive; 1e-5 is
        added to variances where the code adds 1e-6 to their roots.

    Example:
        >>> class Rest(nn.Module):
        ...     def forward(self, features):
        ...         logits, boxes = (x.flatten(2).mT for x in features)
        ...         return logits, boxes
        >>> logits = torch.tensor([[[[0.0, 0.0]], [[4.0, -4.0]]]])
        >>> boxes = torch.tensor([[[[0.0, 1.0]], [[0.0, 1.0]], [[2.0, 4.0]], [[2.0, 4.0]]]])
        >>> [crosskd((sign * logits, boxes), (logits, boxes), head=Rest()) for sign in (1, -1)]
        [tensor([0.]), tensor([7.6085])]
    """
    if not (classes >= 0 and boxes >= 0):
        raise ValueError(f"crosskd: expected weights of 0 or more, found {classes} and {boxes}.")
    pairs = levels("crosskd", student, teacher, least=2)
    for ours, theirs in pairs:
        need_maps("crosskd", ours, theirs, channels=True, grid=True)
    known = tuple(full(theirs.detach()) for _, theirs in pairs)
    crossed = tuple(_aligned(full(ours), theirs) for (ours, _), theirs in zip(pairs, known, strict=True))
    (logits, found), (said, placed) = (through(head, x, dtype=x[0].dtype) for x in (crossed, known))
    loss = classes * anchor_classes(logits, said, focus=focus)
    return loss + boxes * average(_apart(found, placed), objects(said))


EPS = 1e-5
"""Added to variances, as batch norms do."""


def _aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """Each channel with the mean and the spread that the teacher's has over batch and grid."""
    (ours, mine), (theirs, its) = (torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True) for x in (student, teacher))
    return (student - mine) * ((theirs + EPS) / (ours + EPS)).sqrt() + its


def _apart(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the generalised overlap of boxes, ``[B, A]``, in [0, 2]."""
    try:
        from torchvision.ops import generalized_box_iou_loss
    except ImportError as error:
        raise MissingExtra("the overlap of boxes needs torchvision: pip install 'tutelage[vision]'") from error
    distance: Tensor = generalized_box_iou_loss(student, teacher)
    return distance
