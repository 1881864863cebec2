"""How near a picture is to the true one, as papers on super-resolution measure it: on luma, without the border."""

import torch
from torch import Tensor

from tutelage.data.hr_folder import SSIM_WINDOW
from tutelage.errors import DataError, MissingExtra

LARGEST_PSNR = 100.0
"""What is said of pictures that do not differ at all, in dB: no metric of ours is infinite."""


def luma(pictures: Tensor) -> Tensor:
    """Luma as MATLAB's ``rgb2ycbcr`` has it: ITU-R BT.601 with room at both ends.

    Args:
        pictures: ``[B, 3, H, W]``, or ``[B, 1, H, W]`` grey; float in [0, 1].

    Returns:
        ``[B, 1, H, W]``, float64 (float32 on devices without it) in 16 … 235; grey as it is, in 0 … 255, for
        evaluation in MATLAB converts colours alone.

    Raises:
        DataError: Neither three channels nor one.

    Example:
        >>> luma(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])[:, :, None, None]).flatten()
        tensor([ 16.0000, 235.0000,  81.4810], dtype=torch.float64)
    """
    dtype = torch.float32 if pictures.device.type == "mps" else torch.float64
    shares = torch.tensor([65.481, 128.553, 24.966], dtype=dtype, device=pictures.device)
    if pictures.shape[1] == 1:
        return 255 * pictures.to(dtype)
    if pictures.shape[1] != 3:
        raise DataError(f"luma: expected pictures of 3 channels or 1, found {pictures.shape[1]}.")
    return 16 + torch.einsum("c,bchw->bhw", shares, pictures.to(dtype))[:, None]


def quantised(pictures: Tensor) -> Tensor:
    """What a picture file of 8 bits keeps of a picture: clamped to [0, 1] and rounded to steps of 1/255.

    Example:
        >>> quantised(torch.tensor([-0.1, 0.5, 1.2]))
        tensor([0.0000, 0.5020, 1.0000])
    """
    return (pictures.clamp(0, 1) * 255 + 0.5).floor() / 255


def psnr(prediction: Tensor, target: Tensor, *, shave: int) -> Tensor:
    """Peak signal-to-noise ratio of each picture on luma.

    Args:
        prediction: ``[B, C, H, W]`` in [0, 1]; clamped and rounded to 8 bits first.
        target: The true pictures, the same shape.
        shave: Pixels left out at each side: the scale, where nothing else is said.

    Returns:
        dB, ``[B]``, at most `LARGEST_PSNR`; the mean over pictures is what papers print.

    Raises:
        DataError: The shapes differ, or nothing is left of a picture.
    """
    try:
        from torchmetrics.functional.image import peak_signal_noise_ratio
    except ImportError as error:
        raise MissingExtra("metrics need torchmetrics: pip install 'tutelage[train]'") from error
    found: Tensor = peak_signal_noise_ratio(
        *_compared(prediction, target, shave, least=1), data_range=255.0, reduction="none", dim=(1, 2, 3)
    )
    return found.clamp(max=LARGEST_PSNR).float()


def ssim(prediction: Tensor, target: Tensor, *, shave: int) -> Tensor:
    """Structural similarity of each picture on luma.

    Args:
        prediction: As for `psnr`.
        target: As for `psnr`.
        shave: As for `psnr`.

    Returns:
        At most 1, ``[B]``: the mean over the places where the whole window of 11 x 11 is inside.

    Raises:
        DataError: The shapes differ, or the window does not fit.

    Reference:
        Wang, Bovik, Sheikh & Simoncelli 2004, with its Gaussian window and constants.
    """
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as error:
        raise MissingExtra("metrics need torchmetrics: pip install 'tutelage[train]'") from error
    # Convolutions in float64 take nine times as long, for a difference in the eighth digit.
    first, second = (x.float() for x in _compared(prediction, target, shave, least=SSIM_WINDOW))
    _, places = structural_similarity_index_measure(
        first, second, data_range=255.0, reduction="none", return_full_image=True
    )
    rim = SSIM_WINDOW // 2
    whole: Tensor = places[..., rim:-rim, rim:-rim].flatten(1).double().mean(dim=1)
    return whole.float()


def _compared(prediction: Tensor, target: Tensor, shave: int, *, least: int) -> tuple[Tensor, Tensor]:
    if prediction.shape != target.shape or prediction.dim() != 4:
        raise DataError(
            f"expected pictures of one shape [B, C, H, W], found {tuple(prediction.shape)} and {tuple(target.shape)}. "
            "Was the model made for another scale?"
        )
    if min(target.shape[2:]) - 2 * shave < least:
        raise DataError(
            f"expected pictures of {least + 2 * shave} pixels a side or more, found {target.shape[2]} x "
            f"{target.shape[3]}: too little is left without a border of {shave}."
        )
    inside = slice(shave, -shave or None)
    first, second = (luma(x)[..., inside, inside] for x in (quantised(prediction), target))
    return first, second
