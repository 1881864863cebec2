"""Which cells of a feature map lie under the boxes of a picture."""

import torch
from torch import Tensor


def under_boxes(target: Tensor, size: tuple[int, ...], grid: tuple[int, ...], *, reach: float = 0.0) -> Tensor:
    """The cells that each box touches.

    Args:
        target: ``[B, M, 5]``: left, top, right, bottom in pixels, class; class -1 pads.
        size: Height and width of the pictures.
        grid: Rows and columns of the map.
        reach: How much farther a box goes to the right and below, in cells.

    Returns:
        Bool ``[B, M, rows, columns]``; nothing under rows that pad.

    Example:
        >>> under_boxes(torch.tensor([[[0.0, 0.0, 5.0, 3.0, 1.0]]]), (8, 8), (2, 2))[0, 0].int()
        tensor([[1, 1],
                [0, 0]], dtype=torch.int32)
    """
    inside = []
    for near, side, cells in ((1, size[0], grid[0]), (0, size[1], grid[1])):
        edges = torch.arange(cells, device=target.device)
        first = (target[..., near] * cells / side).floor()
        last = (target[..., near + 2] * cells / side).ceil() + reach
        inside.append((edges >= first[..., None]) & (edges < last[..., None]))
    return inside[0][..., :, None] & inside[1][..., None, :] & (target[..., 4] >= 0)[..., None, None]


def need_boxes(loss: str, target: Tensor, inputs: Tensor) -> None:
    """Refuse a target that holds no boxes, or inputs that are no pictures.

    Raises:
        ValueError: One of them is something else.
    """
    if target.dim() != 3 or target.shape[2] != 5 or inputs.dim() != 4:
        raise ValueError(
            f"{loss}: expected boxes [B, M, 5] and pictures [B, C, H, W] in the batch, found {tuple(target.shape)} and "
            f"{tuple(inputs.shape)}. This loss is for detection."
        )
