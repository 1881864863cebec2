"""Neuron selectivity transfer: the channels of both networks should be selective for the same places."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import meet, need_maps
from .precision import full
from .together import together


@together
def nst(student: Tensor, teacher: Tensor, /, *, form: Literal["mmd", "gram"] = "mmd") -> Tensor:
    """Maximum mean discrepancy between the two sets of channels, each channel a unit-length map over the grid.

    The kernel is ``k(a, b) = (a·b)²``, and the discrepancy the mean of k over all pairs of teacher channels, plus
    that over pairs of student channels, minus twice that between the two. It knows no order of channels, so
    their numbers may differ. It is computed from inner products of channels or of positions, whichever are fewer.

    Args:
        student: Feature maps, ``[B, C_s, H, W]``.
        teacher: Feature maps, ``[B, C_t, H', W']``; of each axis, the longer is averaged down to the shorter.
        form: ``"mmd"`` as above. ``"gram"`` compares the inner products of channels one by one: mean squared
            difference, for equal channels in a common order, on any two grids.

    Returns:
        ``[B]``, at least 0 up to rounding, at most 2 (``"gram"``: 4); 0 where the sets of channels are the same.

    Raises:
        ValueError: Not maps; different channels with ``"gram"``; or an unknown form.

    Reference:
        Huang & Wang 2017, arXiv:1707.01219: squared maximum mean discrepancy with the polynomial kernel (d = 2,
        c = 0), without the factor λ/2; channels are scaled to unit length as the paper does. ``"gram"`` is what the
        published code of Adaptive Distillation calls NST.

    Example:
        >>> left, right = torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
        >>> nst(left, torch.cat([left, left], 1)), nst(left, right)
        (tensor([0.]), tensor([2.]))
    """
    if form not in ("mmd", "gram"):
        raise ValueError(f"nst: expected form='mmd' or 'gram', found {form!r}.")
    need_maps("nst", student, teacher, channels=form == "gram")
    student, teacher = full(student), full(teacher.detach())
    with torch.autocast(student.device.type, enabled=False):
        if form == "gram":
            ours, theirs = (_channels(x) for x in (student, teacher))
            return (ours @ ours.mT - theirs @ theirs.mT).square().mean(dim=(1, 2))
        ours, theirs = (_channels(x) for x in meet(student, teacher))
        return _kernel(theirs, theirs) + _kernel(ours, ours) - 2 * _kernel(ours, theirs)


def _channels(x: Tensor) -> Tensor:
    return F.normalize(x.flatten(2), dim=2)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """The mean of the kernel over all pairs of a channel of `a` and a channel of `b`, ``[B]``."""
    pairs, positions = a.shape[1] * b.shape[1], a.shape[2]
    if positions**2 < pairs:  # the same sum, in another order
        return ((a.mT @ a) * (b.mT @ b)).sum(dim=(1, 2)) / pairs
    return (a @ b.mT).square().sum(dim=(1, 2)) / pairs
