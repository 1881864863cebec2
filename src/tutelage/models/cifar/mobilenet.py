"""MobileNetV2 for CIFAR: inverted residuals at half width."""

from collections import OrderedDict

from torch import Tensor, nn

from .base import CifarNet, start

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels at full width, blocks and first stride of each stage."""


def unit(before: int, after: int, kernel: int, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    """A convolution, batch norm and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(),
    )


class Block(nn.Module):
    """Widen, filter each channel, narrow; the input is added where shapes allow. No activation at the end."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.residual = stride == 1 and before == after
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            parts["widen"] = unit(before, wide, 1)
        parts["filter"] = unit(wide, wide, 3, stride, groups=wide)
        parts["narrow"] = nn.Conv2d(wide, after, 1, bias=False)
        parts["bn"] = nn.BatchNorm2d(after)
        self.body = nn.Sequential(parts)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, before, H, W]`` to ``[B, after, H / stride, W / stride]``."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class MobileNetV2(CifarNet):
    """MobileNetV2 with the strides of the CIFAR protocol: a sixteenth of the grid at the end.

    Args:
        name: Its name after ``cifar/``.
        width: Factor on the channels; the last layer keeps its 1280.
        num_classes: Columns of the output.
        in_channels: Channels of the input.

    Reference:
        Sandler et al. 2018, arXiv:1801.04381, table 2, with the second stage at stride 1 for small
        pictures and half the width, as in Tian et al. 2020, arXiv:1910.10699.
    """

    def __init__(self, name: str, width: float, *, num_classes: int, in_channels: int) -> None:
        super().__init__(name, num_classes, in_channels)
        before = int(32 * width)
        self.stem = unit(in_channels, before, 3, 2)
        for number, (expansion, channels, blocks, stride) in enumerate(STAGES, start=1):
            after = int(channels * width)
            stage = [Block(before, after, stride, expansion)]
            stage += [Block(after, after, 1, expansion) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            before = after
        self.head = unit(before, 1280, 1)
        self.linear = nn.Linear(1280, num_classes)
        start(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of normalised pictures ``[B, in_channels, H, W]``."""
        x = self.stem(inputs)
        for number in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.linear(self.head(x).mean(dim=(2, 3)))
        return logits


def mobilenetv2(num_classes: int = 10, in_channels: int = 3) -> MobileNetV2:
    """Half width: 0.81 M parameters with 100 classes."""
    return MobileNetV2("mobilenetv2", 0.5, num_classes=num_classes, in_channels=in_channels)
