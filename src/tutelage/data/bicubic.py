"""Bicubic resizing as MATLAB's ``imresize`` does it: what "LR" and "bicubic" mean in super-resolution."""

import torch
import torch.nn.functional as F
from torch import Tensor


def downscale(pictures: Tensor, scale: int) -> Tensor:
    """Pictures a whole number of times smaller: Keys' kernel (a = -0.5), stretched against aliasing.

    Args:
        pictures: ``[..., C, H, W]``, uint8, or float in any range; both sides multiples of `scale` (`modcrop`).
        scale: How many times smaller.

    Returns:
        ``[..., C, H / scale, W / scale]`` of the same type; uint8 rounded half up, float neither rounded nor clamped.

    Raises:
        ValueError: A side is no multiple of the scale, or the scale is below 1.

    Reference:
        Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing"; borders are mirrored with the
        outermost pixel repeated, as `imresize` has it. torch's own antialiased bicubic has the same kernel but cuts
        it off at the border, and without ``antialias`` it has another one (a = -0.75) and other pictures altogether.

    Example:
        >>> downscale(torch.tensor([[[[0, 0, 9, 9]] * 4]], dtype=torch.uint8), 2)[0, 0]
        tensor([[0, 9],
                [0, 9]], dtype=torch.uint8)
    """
    height, width = pictures.shape[-2:]
    if scale < 1 or height % scale or width % scale:
        raise ValueError(
            f"downscale: expected sides that are multiples of scale={scale}, found {height} x {width}. Cut them with "
            "`modcrop` first."
        )
    return _resize(pictures, scale, up=False)


def upscale(pictures: Tensor, scale: int) -> Tensor:
    """Pictures a whole number of times larger: the bicubic baseline of super-resolution.

    Args:
        pictures: ``[..., C, H, W]``, uint8, or float in any range.
        scale: How many times larger.

    Returns:
        ``[..., C, H * scale, W * scale]`` of the same type; uint8 rounded half up, float neither rounded nor clamped.

    Raises:
        ValueError: The scale is below 1.

    Example:
        >>> upscale(torch.tensor([[[[0.0, 8.0]]]]), 2)
        tensor([[[[-0.7500,  1.6250,  6.3750,  8.7500],
                  [-0.7500,  1.6250,  6.3750,  8.7500]]]])
    """
    if scale < 1:
        raise ValueError(f"upscale: expected a scale of 1 or more, found {scale}.")
    return _resize(pictures, scale, up=True)


def modcrop(pictures: Tensor, scale: int) -> Tensor:
    """Pictures without the rows and columns at the bottom and the right that are too many for the scale.

    Example:
        >>> modcrop(torch.zeros(3, 9, 6), 4).shape
        torch.Size([3, 8, 4])
    """
    height, width = pictures.shape[-2:]
    return pictures[..., : height - height % scale, : width - width % scale]


def _resize(pictures: Tensor, scale: int, *, up: bool) -> Tensor:
    """torch's antialiased bicubic on mirrored pictures, of which the border is cut off again.

    The kernel reaches two pixels of the smaller grid to each side; `border` of them are put on and cut off.
    """
    border = 3
    ours, theirs = (border, border * scale) if up else (border * scale, border)
    height, width = (side * scale if up else side // scale for side in pictures.shape[-2:])
    wide = pictures if pictures.is_floating_point() else pictures.double()
    flat = wide.reshape(-1, *pictures.shape[-3:])
    padded = _mirrored(_mirrored(flat, ours, 2), ours, 3)
    size = (height + 2 * theirs, width + 2 * theirs)
    resized = F.interpolate(padded, size, mode="bicubic", antialias=True, align_corners=False)
    cut = resized[..., theirs : theirs + height, theirs : theirs + width].reshape(*pictures.shape[:-2], height, width)
    return cut if pictures.is_floating_point() else (cut + 0.5).floor().clamp(0, 255).to(pictures.dtype)


def _mirrored(x: Tensor, border: int, dim: int) -> Tensor:
    """More of a tensor at both ends of an axis, mirrored with the outermost values repeated, as often as needed."""
    side = x.shape[dim]
    places = torch.arange(-border, side + border, device=x.device) % (2 * side)
    return x.index_select(dim, torch.where(places < side, places, 2 * side - 1 - places))
