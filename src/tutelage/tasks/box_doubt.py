"""How little found boxes fit the true ones, for weightings that compare teachers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .average_precision import overlaps

LEAST = 1e-4
"""A box that is not found at all counts as found with this probability."""


def box_doubt(found: Tensor, target: Tensor) -> Tensor:
    """Minus the log likelihood of the true boxes, for each of them.

    A detection claims its box with the probability of its score. Of that, the overlap with a true box of its class is
    right and the rest is wrong: so a true box is found with the largest such product there is, and a detection that
    overlaps with none says with its score that there is one more.

    Args:
        found: Detections, ``[B, D, 6]``: left, top, right, bottom, class, score in [0, 1]; class -1 pads.
        target: True boxes, ``[B, M, 5]``, without a score.

    Returns:
        In nats, ``[B]``, at least 0: 0 where every box is found exactly and surely and nothing else is said. In a
        picture without true boxes, what is wrong counts as of one.

    Example:
        >>> import torch
        >>> true = torch.tensor([[[0.0, 0, 10, 10, 2]]])
        >>> said = torch.tensor([[[0.0, 0, 10, 10, 2, 1.0]], [[0.0, 0, 10, 5, 2, 1.0]], [[0.0, 0, 10, 10, 1, 1.0]]])
        >>> box_doubt(said, true.expand(3, -1, -1)).round(decimals=1)
        tensor([ 0.0000,  1.4000, 18.4000])
    """
    target = F.pad(target, (0, 0, 0, 1), value=-1.0)  # there is always one to compare with
    there = target[..., 4] >= 0
    alike = found[:, :, None, 4] == target[:, None, :, 4]
    shares = torch.vmap(overlaps)(found[..., :4], target[..., :4]).nan_to_num(0.0)  # of no area with no area: 0 / 0
    right = shares.where(alike, 0.0)
    score = found[..., 5].where(found[..., 4] >= 0, 0.0)
    missed = -(right * score[..., None]).amax(dim=1).clamp(min=LEAST).log()
    wrong = -(1 - score * (1 - right.amax(dim=2))).clamp(min=LEAST).log()
    return (missed.where(there, 0.0).sum(dim=1) + wrong.sum(dim=1)) / there.sum(dim=1).clamp(min=1)
