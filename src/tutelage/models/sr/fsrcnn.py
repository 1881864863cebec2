"""FSRCNN: all work on the small grid, in a few channels, and one transposed convolution at the end."""

from torch import Tensor, nn

from .base import SrNet, conv


class Fsrcnn(SrNet):
    """FSRCNN(d, s, m) of any size, with the module names of the widely used port to PyTorch.

    Taps: ``first_part`` the features, ``mid_part`` what the last layer enlarges (PISR's ``expanding``).

    Args:
        width: Channels of the features, the paper's d.
        narrow: Channels in between, the paper's s.
        depth: 3x3 convolutions in between, the paper's m.
        scale: How many times larger the output is.
        in_channels: Channels of the pictures; 1 in the paper, which enlarges the luma alone.

    Reference:
        Dong, Loy & Tang 2016, "Accelerating the Super-Resolution Convolutional Neural Network", arXiv:1608.00367.
        Each PReLU has a slope for each channel. Deviation: the last layer starts with torch's own weights where the
        paper draws from N(0, 0.001), which needs its smaller learning rate there.
    """

    enlarged = "mid_part"

    def __init__(self, width: int, narrow: int, depth: int, scale: int, in_channels: int) -> None:
        super().__init__("fsrcnn", width=width, narrow=narrow, depth=depth, scale=scale, in_channels=in_channels)
        layers: list[nn.Module] = [conv(width, narrow, 1), nn.PReLU(narrow)]
        for _ in range(depth):
            layers += [conv(narrow, narrow), nn.PReLU(narrow)]
        self.first_part = nn.Sequential(conv(in_channels, width, 5), nn.PReLU(width))
        self.mid_part = nn.Sequential(*layers, conv(narrow, width, 1), nn.PReLU(width))
        self.last_part = nn.ConvTranspose2d(width, in_channels, 9, scale, padding=4, output_padding=scale - 1)
        for module in (self.first_part, self.mid_part):
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, a=0.25)
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``[B, C, scale * H, scale * W]`` from ``[B, C, H, W]`` in [0, 1]."""
        larger: Tensor = self.last_part(self.mid_part(self.first_part(inputs)))
        return larger


def fsrcnn(width: int = 56, narrow: int = 12, depth: int = 4, scale: int = 2, in_channels: int = 3) -> Fsrcnn:
    """FSRCNN(56, 12, 4): 25 thousand parameters in colour, 13 thousand for luma alone."""
    return Fsrcnn(width, narrow, depth, scale, in_channels)
