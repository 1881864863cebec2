"""What the CIFAR-sized nets share: a name, a way to be built again, and a default normalisation."""

from typing import Any

from torch import nn

from tutelage.models.preprocess import Preprocess


class CifarNet(nn.Module):
    """A net for pictures of about 32x32, with stages ``layer1`` … ``layerN`` and a classifier ``linear``.

    Args:
        name: Its name after ``cifar/``.
        num_classes: Columns of the output.
        in_channels: Channels of the input.

    Attributes:
        preprocess: Normalises with ImageNet's mean and std.
        origin: How to build it again.
    """

    preprocess: Preprocess
    origin: dict[str, Any]

    def __init__(self, name: str, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.preprocess = Preprocess.normalising(in_channels)
        arguments = {"num_classes": num_classes, "in_channels": in_channels}
        self.origin = {"library": "cifar", "name": name, "arguments": arguments, "weights": None}


def start(net: nn.Module) -> None:
    """He initialisation of every convolution, by fan-out."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
