"""ShuffleNetV2 for CIFAR: half of the channels rest in every unit."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import CifarNet, start


def pointwise(before: int, after: int) -> nn.Sequential:
    """A 1x1 convolution, batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def depthwise(channels: int, stride: int) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, and batch norm."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)
    )


def shuffle(x: Tensor) -> Tensor:
    """Deal the channels of two halves alternately."""
    B, C, H, W = x.shape
    return x.view(B, 2, C // 2, H, W).transpose(1, 2).reshape(B, C, H, W)


class Unit(nn.Module):
    """One half of the channels passes, the other goes through three convolutions; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(pointwise(half, half), depthwise(half, 1), pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        rest, work = x.chunk(2, dim=1)
        return shuffle(torch.cat([rest, self.body(work)], dim=1))


class Down(nn.Module):
    """Halves the grid; both halves of the output are made of the whole input."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.skip = nn.Sequential(depthwise(before, 2), pointwise(before, half))
        self.body = nn.Sequential(pointwise(before, half), depthwise(half, 2), pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, before, H, W]`` to ``[B, after, H / 2, W / 2]``."""
        return shuffle(torch.cat([self.skip(x), self.body(x)], dim=1))


class ShuffleNetV2(CifarNet):
    """ShuffleNetV2 with a stem that keeps the grid; three stages halve it.

    Args:
        name: Its name after ``cifar/``.
        widths: Channels of the three stages and of the last 1x1 convolution.
        num_classes: Columns of the output.
        in_channels: Channels of the input.

    Reference:
        Ma et al. 2018, arXiv:1807.11164, table 5, with a 1x1 stem at stride 1 and no pooling after it, as in
        Tian et al. 2020, arXiv:1910.10699.
    """

    def __init__(self, name: str, widths: tuple[int, int, int, int], *, num_classes: int, in_channels: int) -> None:
        super().__init__(name, num_classes, in_channels)
        one, two, three, last = widths
        self.conv1 = nn.Conv2d(in_channels, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Down(before, after), *(Unit(after) for _ in range(units)))
            for before, after, units in ((24, one, 3), (one, two, 7), (two, three, 3))
        )
        self.head = pointwise(three, last)
        self.linear = nn.Linear(last, num_classes)
        start(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of normalised pictures ``[B, in_channels, H, W]``."""
        x = F.relu(self.bn1(self.conv1(inputs)))
        x = self.head(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def shufflenetv2(num_classes: int = 10, in_channels: int = 3) -> ShuffleNetV2:
    """Full width: 1.36 M parameters with 100 classes."""
    return ShuffleNetV2("shufflenetv2", (116, 232, 464, 1024), num_classes=num_classes, in_channels=in_channels)
