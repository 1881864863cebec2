"""Libraries that models come from, by the word before the slash."""

from . import cifar, detector, hf, smp, sr, timm, torchvision
from .base import Offer, Source, Wish

LIBRARIES: dict[str, Source] = {
    "cifar": cifar,
    "detector": detector,
    "hf": hf,
    "smp": smp,
    "sr": sr,
    "timm": timm,
    "torchvision": torchvision,
}

__all__ = ["LIBRARIES", "Offer", "Source", "Wish"]
