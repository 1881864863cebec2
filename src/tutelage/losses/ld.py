"""Localisation distillation: where each side of a box lies, as a distribution."""

from typing import Literal

import torch
from torch import Tensor

from .anchors import average
from .precision import full
from .shapes import positive


def ld(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    temperature: float = 10.0,
    reduction: Literal["sum", "mean"] = "sum",
    element_weight: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence between the distributions that two heads give for each side of each box, times T².

    For heads with bins (GFL and its kin), in any training loop; those of torchvision say one number a side.

    Args:
        student: Logits over the bins of each side, ``[B, A, 4, n + 1]``.
        teacher: Logits of the same shape, for the same locations and bins.
        temperature: T > 0, what both logits are divided by.
        reduction: Over the bins and sides of a location: ``"sum"``, the divergence of the whole box as in the paper; or
            ``"mean"`` as in its code, which is 4 (n + 1) times smaller.
        element_weight: How much each location counts, ``[B, A]``, 0 or more; None: all alike. Published are the
            student's largest score where a box is to be found, and 0 elsewhere (the main region); or the overlap of
            anchors that nearly are such (the valuable region, in a second call).

    Returns:
        ``[B]``, in nats times T², at least 0 and 0 where the two agree: the batch mean is the mean over all locations
        as they count, 0 if none does. Gradient does not flow through the weights.

    Raises:
        ValueError: The shapes do not go together, or an option is out of range.

    Reference:
        Zheng et al. 2022, arXiv:2102.12252, sec. 3. T² and T = 10 are those of its code, which takes the ``"mean"`` at
        a location, adds up over the weighted locations of a batch and weighs that by 0.25 (0.0625 in the valuable
        region). Here the sum is divided by the summed weights, as that code does with its other losses of boxes: the
        same strength takes as many times its weight.

    Example:
        >>> sharp, flat = torch.tensor([8.0, 0.0, 0.0]).expand(1, 1, 4, 3), torch.zeros(1, 1, 4, 3)
        >>> ld(sharp, sharp), ld(flat, sharp, temperature=1.0), ld(flat, sharp, temperature=1.0, reduction="mean")
        (tensor([0.]), tensor([4.3703]), tensor([0.3642]))
    """
    if student.shape != teacher.shape or student.dim() != 4 or student.shape[2] != 4:
        raise ValueError(
            f"ld: expected logits [B, locations, 4, bins] of one shape, found student {tuple(student.shape)} and "
            f"teacher {tuple(teacher.shape)}. A head that gives one number a side has no bins: take `anchor_boxes`."
        )
    if element_weight is not None and element_weight.shape != student.shape[:2]:
        raise ValueError(
            f"ld: expected a weight for each location, {list(student.shape[:2])}, found {list(element_weight.shape)}."
        )
    positive("ld", temperature=temperature)
    if reduction not in ("sum", "mean"):
        raise ValueError(f"ld: expected reduction 'sum' or 'mean', found {reduction!r}.")
    log_prob, target = ((full(x) / temperature).log_softmax(dim=3) for x in (student, teacher.detach()))
    divergence = temperature**2 * target.exp() * (target - log_prob)
    values = divergence.sum(dim=(2, 3)) if reduction == "sum" else divergence.mean(dim=(2, 3))
    weight = torch.ones_like(values) if element_weight is None else element_weight.detach().to(values)
    return average(values, weight)
