"""SRResNet without normalisation: residual blocks, an upsampler, and the enlarged picture added at the end."""

import torch.nn.functional as F
from torch import Tensor, nn

from .base import SrNet, conv, factors


class Block(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv(width, width)
        self.conv2 = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width, H, W]``, the same."""
        said: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + said


class SrResNet(SrNet):
    """SRResNet of any size, with the module names of the "MSRResNet" weights of ESRGAN's authors.

    Taps: ``conv_first``, ``body.0`` … the blocks.

    Args:
        blocks: Residual blocks.
        width: Channels.
        scale: How many times larger the output is.
        in_channels: Channels of the pictures.

    Reference:
        Ledig et al. 2017, arXiv:1609.04802, as modified by Wang et al. 2018, arXiv:1809.00219: without batch
        normalisation, leaky ReLUs in the upsampler, and the bilinearly enlarged picture added to the output.
    """

    enlarged = "body"

    def __init__(self, blocks: int, width: int, scale: int, in_channels: int) -> None:
        super().__init__("srresnet", blocks=blocks, width=width, scale=scale, in_channels=in_channels)
        self.conv_first = conv(in_channels, width)
        self.body = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.factors = factors(scale)
        for number, factor in enumerate(self.factors, start=1):
            self.add_module(f"upconv{number}", conv(width, factor**2 * width))
        self.conv_hr = conv(width, width)
        self.conv_last = conv(width, in_channels)
        nn.init.normal_(self.conv_last.weight, std=0.001)  # the net starts near the enlarged picture
        nn.init.zeros_(self.conv_last.bias)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``[B, C, scale * H, scale * W]`` from ``[B, C, H, W]`` in [0, 1]."""
        x = self.body(F.leaky_relu(self.conv_first(inputs), 0.1))
        for number, factor in enumerate(self.factors, start=1):
            x = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{number}")(x), factor), 0.1)
        details: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), 0.1))
        return details + F.interpolate(inputs, scale_factor=self.scale, mode="bilinear", align_corners=False)


def srresnet(blocks: int = 16, width: int = 64, scale: int = 4, in_channels: int = 3) -> SrResNet:
    """The usual size: 16 blocks of 64 channels, 1.52 M parameters for scale 4."""
    return SrResNet(blocks, width, scale, in_channels)
