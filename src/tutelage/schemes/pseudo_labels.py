"""Boxes the teachers are sure of become labels: for detectors that have nothing else to compare."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from tutelage.errors import InputError
from tutelage.ledger import Batch

from .base import Cast, Stage


def pseudo_labels(cast: Cast, *, score: float = 0.5, overlap: float = 0.5) -> Iterator[Stage]:
    """Detection: what the teachers find joins the labels the student's own loss is computed from.

    It works between any two families of detectors, and makes labels for pictures that have none. The recipe's paths are
    heard beside it. The baseline learns from the labels alone.

    Args:
        cast: Gives the student and the teachers.
        score: Boxes with at least this score are taken, in (0, 1]; none without an area.
        overlap: A box that covers a known one (intersection over union) by this much or more is not taken again.

    Yields:
        One stage, ``student``.

    Raises:
        InputError: An option is out of range.

    Reference:
        Hard labels of a teacher, after Sohn et al. 2020, arXiv:2005.04757, whose score is 0.9; without their strong
        augmentation.
    """
    if not 0 < score <= 1 or not 0 < overlap <= 1:
        raise InputError(f"pseudo_labels: expected score and overlap in (0, 1], found {score} and {overlap}.")
    pupil = cast.distiller(cast.model("student"), cast.teachers())

    @torch.no_grad()
    def label(batch: Batch) -> Batch:
        target = batch.target
        for network in cast.networks.values():
            found = pupil.task.call(network.eval(), batch)
            sides = found[..., 2:4] - found[..., :2]
            sure = (found[..., 5] >= score) & (sides > 0).all(dim=2)
            target = joined(target, found[..., :5].where(sure[..., None], -1.0), overlap)
        return dataclasses.replace(batch, target=target, labelled=batch.labelled | (target[..., 4] >= 0).any(dim=1))

    yield Stage("student", {"student": pupil}, before_step=label)


def joined(target: Tensor, found: Tensor, overlap: float) -> Tensor:
    """Boxes with those of others that cover none of them.

    Args:
        target: ``[B, M, 5]``: left, top, right, bottom, class; class -1 pads.
        found: ``[B, D, 5]``, the same.
        overlap: From which intersection over union a box covers another.

    Returns:
        ``[B, M', 5]``, with the boxes first.

    Example:
        >>> known = torch.tensor([[[0.0, 0.0, 4.0, 4.0, 1.0]]])
        >>> seen = torch.tensor([[[0.0, 0.0, 4.0, 3.0, 0.0], [6.0, 6.0, 9.0, 9.0, 0.0], [0.0, 0.0, 0.0, 0.0, -1.0]]])
        >>> joined(known, seen, 0.5)
        tensor([[[0., 0., 4., 4., 1.],
                 [6., 6., 9., 9., 0.]]])
    """
    from torchvision.ops import box_iou

    rows = []
    for mine, its in zip(target, found, strict=True):
        known, new = mine[mine[:, 4] >= 0], its[its[:, 4] >= 0].to(mine)
        if len(known) and len(new):
            new = new[box_iou(new[:, :4], known[:, :4]).amax(dim=1) < overlap]
        rows.append(torch.cat([known, new]))
    most = max(1, *map(len, rows))
    none = target.new_tensor([0, 0, 0, 0, -1])
    return torch.stack([torch.cat([row, none.expand(most - len(row), 5)]) for row in rows])
