"""How little found boxes fit the true ones, for weightings that compare teachers."""

import torch.nn.functional as F
from torch import Tensor

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
    boxes, others = found[:, :, None], target[:, None]
    corner, far = boxes[..., :2].maximum(others[..., :2]), boxes[..., 2:4].minimum(others[..., 2:4])
    shared = (far - corner).clamp(min=0).prod(dim=-1)
    overlap = shared / (_area(boxes) + _area(others) - shared).clamp(min=1e-9)
    right = overlap.where((boxes[..., 4] == others[..., 4]) & (others[..., 4] >= 0), 0.0)
    score = found[..., 5].where(found[..., 4] >= 0, 0.0)
    there = target[..., 4] >= 0
    missed = -(right * score[..., None]).amax(dim=1).clamp(min=LEAST).log()
    wrong = -(1 - score * (1 - right.amax(dim=2))).clamp(min=LEAST).log()
    return (missed.where(there, 0.0).sum(dim=1) + wrong.sum(dim=1)) / there.sum(dim=1).clamp(min=1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:4] - boxes[..., :2]).clamp(min=0).prod(dim=-1)
