"""Residual nets for CIFAR: 6n+2 layers in three stages."""

import torch.nn.functional as F
from torch import Tensor, nn

from .base import CifarNet, start


class PadShortcut(nn.Module):
    """Skips without parameters: every `stride`-th pixel, new channels filled with zeros (option A).

    Args:
        stride: Step between the pixels that are kept.
        channels: New channels, half of them before the old ones and half after.
    """

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.pad = (0, 0, 0, 0, channels // 2, channels - channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C + channels, H / stride, W / stride]``."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.pad)


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; its output is after the last ReLU."""

    def __init__(self, before: int, after: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if project and (stride != 1 or before != after):
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        elif stride != 1 or before != after:
            self.shortcut = PadShortcut(stride, after - before)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, before, H, W]`` to ``[B, after, H / stride, W / stride]``."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(CifarNet):
    """ResNet of the CIFAR shape: a 3x3 stem, three stages that halve the grid twice, average pooling.

    Args:
        name: Its name after ``cifar/``.
        blocks: Blocks of each stage.
        widths: Channels of the stem and of the three stages.
        project: Shortcuts are 1x1 convolutions where shapes change, instead of subsampling and zero-padding.
        num_classes: Columns of the output.
        in_channels: Channels of the input.

    Reference:
        He et al. 2016, arXiv:1512.03385, section 4.2. The nets with ``x4`` in their name, four times as
        wide with a 32-channel stem and 1x1 shortcuts, are those of Tian et al. 2020, arXiv:1910.10699.
    """

    def __init__(
        self,
        name: str,
        blocks: int,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        *,
        project: bool = False,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__(name, num_classes, in_channels)
        stem, *stages = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        strides = (1, 2, 2)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                Block(before, after, stride, project=project),
                *(Block(after, after, 1, project=project) for _ in range(blocks - 1)),
            )
            for before, after, stride in zip(widths[:-1], stages, strides, strict=True)
        )
        self.linear = nn.Linear(widths[-1], num_classes)
        start(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of normalised pictures ``[B, in_channels, H, W]``."""
        x = F.relu(self.bn1(self.conv1(inputs)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def resnet8(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """One block a stage: 0.08 M parameters."""
    return ResNet("resnet8", 1, num_classes=num_classes, in_channels=in_channels)


def resnet14(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Two blocks a stage: 0.18 M parameters."""
    return ResNet("resnet14", 2, num_classes=num_classes, in_channels=in_channels)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Three blocks a stage: 0.27 M parameters."""
    return ResNet("resnet20", 3, num_classes=num_classes, in_channels=in_channels)


def resnet32(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Five blocks a stage: 0.46 M parameters."""
    return ResNet("resnet32", 5, num_classes=num_classes, in_channels=in_channels)


def resnet44(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Seven blocks a stage: 0.66 M parameters."""
    return ResNet("resnet44", 7, num_classes=num_classes, in_channels=in_channels)


def resnet56(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Nine blocks a stage: 0.85 M parameters."""
    return ResNet("resnet56", 9, num_classes=num_classes, in_channels=in_channels)


def resnet110(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Eighteen blocks a stage: 1.73 M parameters."""
    return ResNet("resnet110", 18, num_classes=num_classes, in_channels=in_channels)


_WIDE = (32, 64, 128, 256)


def resnet8x4(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """One block a stage, four times as wide: 1.23 M parameters with 100 classes."""
    return ResNet("resnet8x4", 1, _WIDE, project=True, num_classes=num_classes, in_channels=in_channels)


def resnet32x4(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Five blocks a stage, four times as wide: 7.43 M parameters with 100 classes."""
    return ResNet("resnet32x4", 5, _WIDE, project=True, num_classes=num_classes, in_channels=in_channels)
