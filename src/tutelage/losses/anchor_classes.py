"""What a detector says about classes at every anchor, before anything is suppressed."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import full
from .shapes import positive


def anchor_classes(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    scores: Literal["sigmoid", "softmax"] = "sigmoid",
    temperature: float = 1.0,
    focus: float = 1.0,
) -> Tensor:
    """Divergence between the class scores of two detectors at each anchor, over what the teacher takes for objects.

    Each anchor counts by how far the two are apart, so that background on which both agree is not heard: with sigmoid
    scores each class by the difference of its scores, with softmax by half the sum of those differences.

    Args:
        student: Logits, ``[B, A, C + 1]``; column 0 is the background, or stands empty.
        teacher: Logits of the same shape, for the same anchors.
        scores: ``"sigmoid"``: every class is a question of its own (FCOS, RetinaNet), column 0 is not used;
            ``"softmax"``: classes and background share one distribution (SSD).
        temperature: T > 0, what both logits are divided by.
        focus: The exponent of that distance; 0 (all anchors count alike) or at least 1.

    Returns:
        ``[B]``, in nats times T², at least 0. A batch is divided by the sum of the teacher's scores over all its
        anchors, about the number of places where it sees an object; 0 where the two agree and focus is not 0.

    Raises:
        ValueError: The shapes differ, or an option is out of range.

    Reference:
        Wang et al. 2024, arXiv:2306.11369, eq. 5 (binary cross-entropy with the teacher's scores times their
        distance); there divided by the number of positives of an assigner, here by the teacher's scores, which needs
        none. With softmax the divergence of the distributions, times their total variation.

    Example:
        >>> import torch
        >>> no, yes = torch.tensor([[[0.0, -4.0]]]), torch.tensor([[[0.0, 4.0]]])
        >>> anchor_classes(no, yes), anchor_classes(yes, yes)
        (tensor([3.8739]), tensor([0.]))
    """
    if student.shape != teacher.shape or student.dim() != 3 or student.shape[2] < 2:
        raise ValueError(
            f"anchor_classes: expected logits [B, anchors, classes + 1] of one shape, found student "
            f"{tuple(student.shape)} and teacher {tuple(teacher.shape)}. Detectors with other anchors are compared by "
            "their features, or by pseudo-labels."
        )
    positive("anchor_classes", temperature=temperature)
    if scores not in ("sigmoid", "softmax") or not (focus == 0 or 1 <= focus < float("inf")):
        raise ValueError(
            "anchor_classes: expected scores 'sigmoid' or 'softmax' and a focus of 0 or at least 1, found "
            f"{scores!r} and {focus}."
        )
    ours, theirs = full(student) / temperature, full(teacher.detach()) / temperature
    if scores == "sigmoid":
        ours, target = ours[..., 1:], theirs[..., 1:].sigmoid()
        apart = (ours.sigmoid() - target).abs() ** focus if focus else 1.0
        values = (F.binary_cross_entropy_with_logits(ours, target, reduction="none") * apart).sum(dim=2)
        objects = target.amax(dim=2)
    else:
        log_prob, target = ours.log_softmax(dim=2), theirs.log_softmax(dim=2)
        values = (target.exp() * (target - log_prob)).sum(dim=2)
        objects = 1 - target[..., 0].exp()
        apart = (log_prob.exp() - target.exp()).abs().sum(dim=2) / 2
        values = values * apart**focus if focus else values
    total = objects.sum().clamp(min=torch.finfo(objects.dtype).eps)
    return temperature**2 * values.sum(dim=1) * len(values) / total
