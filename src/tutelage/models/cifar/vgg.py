"""Plain stacks of 3x3 convolutions."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .base import CifarNet, start


class Unit(nn.Module):
    """A 3x3 convolution, batch norm and ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, 1, 1)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, before, H, W]`` to ``[B, after, H, W]``."""
        return F.relu(self.bn(self.conv(x)))


class Vgg(CifarNet):
    """VGG of the CIFAR shape: five stages of 64 to 512 channels and one linear layer.

    The grid is halved before stages two to four, and before stage five where it is still larger than 4x4.

    Args:
        name: Its name after ``cifar/``.
        convs: Convolutions of each stage.
        num_classes: Columns of the output.
        in_channels: Channels of the input.

    Reference:
        Simonyan & Zisserman 2015, arXiv:1409.1556, with batch norm, and with average pooling and one
        linear layer for its three as in Tian et al. 2020, arXiv:1910.10699.
    """

    def __init__(self, name: str, convs: int, *, num_classes: int, in_channels: int) -> None:
        super().__init__(name, num_classes, in_channels)
        widths = (in_channels, 64, 128, 256, 512, 512)
        self.layer1, self.layer2, self.layer3, self.layer4, self.layer5 = (
            nn.Sequential(Unit(before, after), *(Unit(after, after) for _ in range(convs - 1)))
            for before, after in pairwise(widths)
        )
        self.linear = nn.Linear(widths[-1], num_classes)
        start(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of normalised pictures ``[B, in_channels, H, W]``."""
        x = F.max_pool2d(self.layer1(inputs), 2)
        x = F.max_pool2d(self.layer2(x), 2)
        x = self.layer4(F.max_pool2d(self.layer3(x), 2))
        if min(x.shape[2:]) > 4:
            x = F.max_pool2d(x, 2)
        logits: Tensor = self.linear(self.layer5(x).mean(dim=(2, 3)))
        return logits


def vgg8(num_classes: int = 10, in_channels: int = 3) -> Vgg:
    """One convolution a stage: 3.96 M parameters with 100 classes."""
    return Vgg("vgg8", 1, num_classes=num_classes, in_channels=in_channels)


def vgg13(num_classes: int = 10, in_channels: int = 3) -> Vgg:
    """Two convolutions a stage: 9.46 M parameters with 100 classes."""
    return Vgg("vgg13", 2, num_classes=num_classes, in_channels=in_channels)
