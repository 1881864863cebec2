"""Intra-class feature variation: match how far each pixel's feature is from its class's mean."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .labels import needs_labels
from .maps import need_maps
from .precision import full
from .shapes import same_batch


@needs_labels
def ifvd(student: Tensor, teacher: Tensor, /, *, target: Tensor) -> Tensor:
    """Squared difference of the cosines between each place's feature and the mean feature of its class in the picture.

    Places are those of the feature map, with the class of the nearest pixel of the truth. A place without a class is
    its own mean, whose cosine is 1 on both sides.

    Args:
        student: Feature maps, ``[B, C_s, H, W]``.
        teacher: Feature maps, ``[B, C_t, H, W]``: channels may differ, the grid may not (put `connectors.Resize` in
            the path).
        target: Classes of the pixels, int64 ``[B, h, w]`` on any grid; 255, or below 0, where there is none.

    Returns:
        ``[B]``, in [0, 4]: the mean over places; 0 where the features of each class are spread alike.

    Raises:
        ValueError: The grids differ, or the target is no map of classes.

    Reference:
        Wang, Zhou, Jiang, Bai & Xu 2020, "Intra-class feature variation distillation for semantic segmentation",
        ECCV, eq. 2 to 4; as in the authors' code ignored places count, with a cosine of 1. Published weight: 200.

    Example:
        >>> classes = torch.tensor([[[0, 0], [1, 1]]])
        >>> flat, apart = torch.ones(1, 2, 2, 2), torch.eye(2).reshape(1, 2, 1, 2).expand(1, 2, 2, 2)
        >>> ifvd(flat, apart, target=classes), ifvd(flat, 3 * flat, target=classes).round(decimals=6)
        (tensor([0.0858]), tensor([0.]))
    """
    need_maps("ifvd", student, teacher, grid=True)
    same_batch("ifvd", student, teacher)
    if target.dim() != 3 or target.is_floating_point() or len(target) != len(student):
        raise ValueError(
            f"ifvd: expected classes of pixels [B, h, w] for a batch of {len(student)}, found {target.dtype} "
            f"{tuple(target.shape)}. It is a loss for segmentation."
        )
    classes = F.interpolate(target[:, None].double(), student.shape[2:], mode="nearest")[:, 0].long().flatten(1)
    known = (classes >= 0) & (classes != 255)
    # Each picture and class has a number of its own; places without a class share one that nobody reads.
    shift = 256 * torch.arange(len(classes), device=classes.device)[:, None]
    group = (torch.where(known, classes, 255) + shift).flatten()
    numbers, members = torch.unique(group, return_inverse=True)
    with torch.autocast(student.device.type, enabled=False):
        ours, theirs = (_closeness(full(x), members, len(numbers), known) for x in (student, teacher.detach()))
    return (ours - theirs).square().mean(dim=1)


def _closeness(feature: Tensor, members: Tensor, groups: int, known: Tensor) -> Tensor:
    """Cosine of each place with the mean of its group, ``[B, H·W]``; 1 where it has no class."""
    places = feature.flatten(2).mT.flatten(0, 1)  # [B·H·W, C]
    counts = torch.bincount(members, minlength=groups).to(places.dtype)
    sums = places.new_zeros(groups, places.shape[1]).index_add(0, members, places)
    means = (sums / counts[:, None])[members]
    return torch.where(known.flatten(), F.cosine_similarity(places, means, dim=1), 1.0).reshape(len(feature), -1)
