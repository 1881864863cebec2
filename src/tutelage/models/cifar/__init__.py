"""Small nets for small pictures (8x8 to 64x64), which the large libraries do not carry."""

from .mobilenet import mobilenetv2
from .resnet import (
    resnet8,
    resnet8x4,
    resnet14,
    resnet20,
    resnet32,
    resnet32x4,
    resnet44,
    resnet56,
    resnet110,
)
from .shufflenet import shufflenetv2
from .vgg import vgg8, vgg13
from .wrn import wrn_16_2, wrn_40_2

__all__ = [
    "mobilenetv2",
    "resnet8",
    "resnet8x4",
    "resnet14",
    "resnet20",
    "resnet32",
    "resnet32x4",
    "resnet44",
    "resnet56",
    "resnet110",
    "shufflenetv2",
    "vgg8",
    "vgg13",
    "wrn_16_2",
    "wrn_40_2",
]
