"""Where a detector puts the box of every anchor, before anything is suppressed."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from .anchors import average, objects
from .precision import full
from .shapes import positive


def anchor_boxes(
    student: Tensor,
    teacher: tuple[Tensor, Tensor],
    /,
    *,
    scores: Literal["sigmoid", "softmax"] = "sigmoid",
    beta: float = 0.1,
) -> Tensor:
    """Smooth absolute distance between the offsets of two detectors, where the teacher sees an object.

    Args:
        student: Offsets, ``[B, A, 4]``, in the units of the head.
        teacher: Its offsets, ``[B, A, 4]``, for the same anchors, and its class logits, ``[B, A, C + 1]``; column 0
            is the background, or stands empty. Two taps: ``teacher: [head.regression_head, head.classification_head]``.
        scores: ``"sigmoid"`` or ``"softmax"``, how the logits are read; see `anchor_classes`.
        beta: Below this distance the loss is quadratic.

    Returns:
        ``[B]``, at least 0: the mean over sides and anchors, each anchor as heavy as the teacher's largest score there.
        0 where the two agree.

    Raises:
        ValueError: The shapes do not go together, or an option is out of range.

    Reference:
        The weights are those of Zheng et al. 2022, arXiv:2102.12252, and Wang et al. 2024, arXiv:2306.11369, with the
        teacher's score; they compare distributions over each side (heads with bins) or overlaps of decoded boxes, where
        heads of torchvision give one number a side. Gradient does not flow through the weights.

    Example:
        >>> import torch
        >>> offsets, sure = torch.tensor([[[1.0, 1.0, 1.0, 1.0]]]), torch.tensor([[[0.0, 9.0]]])
        >>> anchor_boxes(offsets, (offsets, sure)), anchor_boxes(offsets, (offsets + 1, sure))
        (tensor([0.]), tensor([0.9500]))
    """
    if isinstance(teacher, Tensor) or len(teacher) != 2:
        raise ValueError(
            "anchor_boxes: expected two taps of the teacher, its offsets and its class logits. Name both: "
            "teacher=['head.regression_head', 'head.classification_head']."
        )
    offsets, logits = teacher
    if (
        student.shape != offsets.shape
        or student.dim() != 3
        or student.shape[2] != 4
        or logits.shape[:2] != student.shape[:2]
    ):
        raise ValueError(
            f"anchor_boxes: expected offsets [B, anchors, 4] of student and teacher and logits [B, anchors, C + 1], "
            f"found {tuple(student.shape)}, {tuple(offsets.shape)} and {tuple(logits.shape)}."
        )
    positive("anchor_boxes", beta=beta)
    if scores not in ("sigmoid", "softmax"):
        raise ValueError(f"anchor_boxes: expected scores 'sigmoid' or 'softmax', found {scores!r}.")
    distance = F.smooth_l1_loss(full(student), full(offsets.detach()), beta=beta, reduction="none").mean(dim=2)
    return average(distance, objects(full(logits.detach()), scores))
