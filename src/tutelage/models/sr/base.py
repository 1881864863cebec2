"""What the nets for super-resolution share: a name, a scale, a way to be built again, and two modules."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.models.preprocess import Preprocess

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean of red, green and blue over DIV2K's training pictures, in 0…1."""


class SrNet(nn.Module):
    """A net from pictures ``[B, C, h, w]`` in [0, 1] to pictures ``[B, C, scale * h, scale * w]``.

    Normalisation and its inverse are inside the net: its output is a picture, too, though not clamped.

    Args:
        name: Its name after ``sr/``.
        arguments: What builds it again, ``scale`` and ``in_channels`` among them.

    Attributes:
        scale: How many times larger the output is.
        colours: The largest value of a colour inside the net.
        enlarged: The tap of the features that the last layers enlarge.
        preprocess: Hands the picture on as it is.
        origin: How to build it again.

    Raises:
        ModelError: The scale is not 2, 3, 4 or 8, or a size is below 1.
    """

    scale: int
    colours: float = 1.0
    enlarged: ClassVar[str]
    preprocess: Preprocess
    origin: dict[str, Any]

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__()
        if arguments["scale"] not in (2, 3, 4, 8):
            raise ModelError(f"sr/{name}: expected a scale of 2, 3, 4 or 8, found {arguments['scale']}.")
        for key, value in arguments.items():
            if isinstance(value, int) and value < 1:
                raise ModelError(f"sr/{name}: expected {key} of 1 or more, found {value}.")
        self.scale = arguments["scale"]
        self.preprocess = Preprocess.identity(arguments["in_channels"])
        self.origin = {"library": "sr", "name": name, "arguments": arguments, "weights": None}


class LongSkip(SrNet):
    """A net whose whole body is a correction: what the first convolution gives is added to what comes after it.

    A subclass makes the parts: `head`, `body`, `tail`, and `sub_mean` and `add_mean` around them.
    """

    enlarged = "tail.0:input"
    sub_mean: nn.Module
    head: nn.Module
    body: nn.Module
    tail: nn.Module
    add_mean: nn.Module

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``[B, C, scale * H, scale * W]`` from ``[B, C, H, W]`` in [0, 1]."""
        x = self.head(self.sub_mean(inputs * self.colours))
        x = x + self.body(x)
        larger: Tensor = self.add_mean(self.tail(x)) / self.colours
        return larger


class MeanShift(nn.Module):
    """Adds the mean picture or takes it away; with the names, but not as the parameters, of published weights.

    Args:
        channels: Of the picture; the mean of the three where it is not three.
        colours: The largest value of a colour, 1 or 255.
        sign: 1 adds, -1 takes away.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, colours: float, sign: int) -> None:
        super().__init__()
        mean = DIV2K_MEAN if channels == 3 else (sum(DIV2K_MEAN) / 3,) * channels
        self.register_buffer("weight", torch.eye(channels)[:, :, None, None])
        self.register_buffer("bias", sign * colours * torch.tensor(mean))

    def forward(self, pictures: Tensor) -> Tensor:
        """``[B, C, H, W]``, shifted."""
        return pictures + self.bias[:, None, None]


class Upsampler(nn.Sequential):
    """Convolutions that make channels, each shuffled into a grid twice (or three times) as large.

    Args:
        scale: 2, 3, 4 or 8.
        width: Channels in and out.
    """

    def __init__(self, scale: int, width: int) -> None:
        layers: list[nn.Module] = []
        for factor in factors(scale):
            layers += [conv(width, factor**2 * width), nn.PixelShuffle(factor)]
        super().__init__(*layers)


def conv(before: int, after: int, side: int = 3) -> nn.Conv2d:
    """A convolution that keeps the grid, with a bias."""
    return nn.Conv2d(before, after, side, padding=side // 2)


def factors(scale: int) -> tuple[int, ...]:
    """In which steps a net enlarges.

    Example:
        >>> factors(4), factors(3)
        ((2, 2), (3,))
    """
    return (3,) if scale == 3 else (2,) * (scale.bit_length() - 1)
