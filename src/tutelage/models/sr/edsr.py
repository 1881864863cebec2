"""EDSR: residual blocks without normalisation, and an upsampler at the end."""

from torch import Tensor, nn

from .base import LongSkip, MeanShift, Upsampler, conv


class Block(nn.Module):
    """Two convolutions around a skip.

    Args:
        width: Channels in and out.
        res_scale: What the block adds is multiplied by it.
    """

    def __init__(self, width: int, res_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width))
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width, H, W]``, the same."""
        said: Tensor = self.body(x)
        return x + said * self.res_scale


class Edsr(LongSkip):
    """EDSR of any size, with the module names of EDSR-PyTorch.

    Taps: ``head``, ``body.0`` … the blocks, ``tail.0:input`` the features behind the long skip.

    Args:
        blocks: Residual blocks.
        width: Channels.
        scale: How many times larger the output is.
        res_scale: What each block adds is multiplied by it; 0.1 where the net is 256 wide.
        in_channels: Channels of the pictures.
        colours: The largest value of a colour inside the net: 255 as in the published weights.

    Reference:
        Lim, Son, Kim, Nah & Lee 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
        arXiv:1707.02921.
    """

    def __init__(self, blocks: int, width: int, scale: int, res_scale: float, in_channels: int, colours: float) -> None:
        super().__init__(
            "edsr", blocks=blocks, width=width, scale=scale, res_scale=res_scale, in_channels=in_channels,
            colours=colours,
        )  # fmt: skip
        self.colours = colours
        self.sub_mean = MeanShift(in_channels, colours, -1)
        self.head = nn.Sequential(conv(in_channels, width))
        self.body = nn.Sequential(*(Block(width, res_scale) for _ in range(blocks)), conv(width, width))
        self.tail = nn.Sequential(Upsampler(scale, width), conv(width, in_channels))
        self.add_mean = MeanShift(in_channels, colours, 1)


def edsr(
    blocks: int = 16,
    width: int = 64,
    scale: int = 2,
    res_scale: float = 1.0,
    in_channels: int = 3,
    colours: float = 255.0,
) -> Edsr:
    """The baseline: 16 blocks of 64 channels, 1.37 M parameters for scale 2. The full one is 32 of 256 at 0.1."""
    return Edsr(blocks, width, scale, res_scale, in_channels, colours)
