"""Wide residual nets: few layers, many channels, activation before convolution."""

import torch.nn.functional as F
from torch import Tensor, nn

from .base import CifarNet, start


class Block(nn.Module):
    """Two pre-activated 3x3 convolutions around a shortcut; its output is before the next ReLU."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, before, H, W]`` to ``[B, after, H / stride, W / stride]``."""
        active = F.relu(self.bn1(x))
        y: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(CifarNet):
    """Wide ResNet: a 16-channel stem, three stages of 16, 32, 64 channels times `width`, no dropout.

    Args:
        name: Its name after ``cifar/``.
        depth: Layers in all, 6n+4.
        width: Factor on the channels.
        num_classes: Columns of the output.
        in_channels: Channels of the input.

    Reference:
        Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 1.
    """

    def __init__(self, name: str, depth: int, width: int, *, num_classes: int, in_channels: int) -> None:
        super().__init__(name, num_classes, in_channels)
        blocks, widths = (depth - 4) // 6, (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(before, after, stride), *(Block(after, after, 1) for _ in range(blocks - 1)))
            for before, after, stride in zip(widths[:-1], widths[1:], (1, 2, 2), strict=True)
        )
        self.bn1 = nn.BatchNorm2d(widths[-1])
        self.linear = nn.Linear(widths[-1], num_classes)
        start(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of normalised pictures ``[B, in_channels, H, W]``."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(inputs))))
        logits: Tensor = self.linear(F.relu(self.bn1(x)).mean(dim=(2, 3)))
        return logits


def wrn_16_2(num_classes: int = 10, in_channels: int = 3) -> WideResNet:
    """Sixteen layers, twice as wide: 0.70 M parameters."""
    return WideResNet("wrn_16_2", 16, 2, num_classes=num_classes, in_channels=in_channels)


def wrn_40_2(num_classes: int = 10, in_channels: int = 3) -> WideResNet:
    """Forty layers, twice as wide: 2.25 M parameters."""
    return WideResNet("wrn_40_2", 40, 2, num_classes=num_classes, in_channels=in_channels)
