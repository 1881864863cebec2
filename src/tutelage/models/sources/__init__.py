"""Libraries that models come from, by the word before the slash."""

from . import cifar, detector, hf, timm, torchvision
from .base import Offer, Source, Wish

LIBRARIES: dict[str, Source] = {
    "cifar": cifar,
    "detector": detector,
    "hf": hf,
    "timm": timm,
    "torchvision": torchvision,
}

__all__ = ["LIBRARIES", "Offer", "Source", "Wish"]
