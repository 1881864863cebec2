"""Factor transfer: match unit-length factors, the encoded features of both networks."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import meet, need_maps
from .precision import full
from .together import together


@together
def factor(
    student: Tensor,
    teacher: Tensor,
    /,
    *,
    form: Literal["whole", "channels"] = "whole",
    distance: Literal["l1", "l2", "squared"] = "l1",
    power: float = 2.0,
) -> Tensor:
    """Distance between the two factors, each scaled to unit length.

    Factors are what a translator makes of the student's features and a paraphraser of the teacher's; the loss `FT`
    holds both. Any features that correspond channel by channel can be compared.

    Args:
        student: Factors, ``[B, C, H, W]``.
        teacher: Factors, ``[B, C, H', W']``; of each axis, the longer is averaged down to the shorter.
        form: ``"whole"``: a factor is one vector of all its elements. ``"channels"``: the mean over channels of
            ``x ** power``, a map that says where the factor is strong; channels may differ then.
        distance: ``"l1"``: mean absolute difference; ``"squared"``: mean squared difference; ``"l2"``: length of the
            difference.
        power: For ``"channels"``, a whole number, without an absolute value.

    Returns:
        ``[B]``, at least 0; 0 where the factors have one direction. Means are small, at most 2/√n for n elements,
        so weights are in the hundreds.

    Raises:
        ValueError: Not maps, different channels with ``"whole"``, or an unknown option.

    Reference:
        Kim, Park & Kwak 2018, "Paraphrasing Complex Network", arXiv:1802.04977, the factor transfer loss with p = 1,
        as in the authors' code (mean over elements). ``form="channels"`` is what RepDistiller computes under
        this name: attention transfer between factors. ``"l2"`` is torchdistill's with p = 2.

    Example:
        >>> up, along = torch.tensor([[[[0.0]], [[2.0]]]]), torch.tensor([[[[3.0]], [[0.0]]]])
        >>> factor(up, 5 * up), factor(up, along), factor(up, along, distance="l2")
        (tensor([0.]), tensor([1.]), tensor([1.4142]))
    """
    if form not in ("whole", "channels") or distance not in ("l1", "l2", "squared"):
        raise ValueError(
            f"factor: expected form='whole' or 'channels' and distance='l1', 'l2' or 'squared'; found {form!r} and "
            f"{distance!r}."
        )
    if power < 1 or power != int(power):
        raise ValueError(f"factor: expected a whole power >= 1, found {power}.")
    need_maps("factor", student, teacher, channels=form == "whole")
    ours, theirs = (
        F.normalize((x if form == "whole" else x.pow(power).mean(dim=1)).flatten(1), dim=1)
        for x in meet(full(student), full(teacher.detach()))
    )
    off = ours - theirs
    if distance == "l2":
        length: Tensor = torch.linalg.vector_norm(off, dim=1)
        return length
    return (off.abs() if distance == "l1" else off.square()).sum(dim=1) / off.shape[1]
