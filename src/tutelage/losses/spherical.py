"""Spherical distillation: compare the directions of logits, on a sphere of one radius."""

from typing import Literal

import torch
from torch import Tensor

from .kl import kl
from .precision import full
from .shapes import CLASSES, same_shape
from .together import together
from .unit import unit


@together
def spherical(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    temperature: float = 4.0,
    radius: float | Literal["batch", "sample"] = "batch",
) -> Tensor:
    """`kl` of logits that were centred and scaled to one length, so that the student need not be as sure.

    Args:
        student: Logits, ``[B, C]``, or ``[B, C, ...]`` with one prediction per position.
        teacher: Logits of the same shape.
        temperature: T > 0, what the scaled logits are divided by.
        radius: The length. ``"batch"``: the mean length of the teacher's centred logits. ``"sample"``: that of the
            teacher's own logits, which therefore stay as they are. Or a number > 0.

    Returns:
        ``[B]``, in nats times T², at least 0: the mean over a sample's positions; 0 where the directions agree.
        Logits that are all equal are a point without direction and get no gradient.

    Raises:
        ValueError: The shapes differ, or an option is out of range.

    Reference:
        Guo et al. 2020, arXiv:2010.07485, sec. 3, with the mean length over the batch for that over the data. The
        published training loop is ``radius="sample"``; its notes scale to a deviation of m = 2 or 3, which is
        ``radius=m * C**0.5``. There the label's loss sees the scaled logits, too; here it is the task's, on the
        student's own.

    Example:
        >>> import torch
        >>> shy, bold = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[5.0, 0.0, -5.0]])
        >>> spherical(shy, bold).abs() < 1e-6, spherical(bold.flip(1), bold) > 1
        (tensor([True]), tensor([True]))
    """
    same_shape("spherical", student, teacher, CLASSES)
    if radius not in ("batch", "sample") and (isinstance(radius, str) or not 0 < radius < float("inf")):
        raise ValueError(f"spherical: expected radius='batch', 'sample' or a number > 0, found {radius!r}.")
    centred, teacher_centred = (x - x.mean(dim=1, keepdim=True) for x in (full(student), full(teacher.detach())))
    length = torch.linalg.vector_norm(teacher_centred, dim=1, keepdim=True)
    if radius != "sample":
        length = length.mean() if radius == "batch" else torch.full_like(length, radius)
    return kl(length * unit(centred), length * unit(teacher_centred), temperature=temperature)
