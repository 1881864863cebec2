"""``smp/DECODER:ENCODER``: segmentation networks of `segmentation_models_pytorch` on encoders of `timm`."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.errors import MissingExtra, UnknownName, close_names

from . import timm
from .base import Offer, Wish, refuse_fetching

DECODERS = (
    "deeplabv3", "deeplabv3plus", "dpt", "fpn", "linknet", "manet", "pan", "pspnet", "segformer", "unet",
    "unetplusplus", "upernet",
)  # fmt: skip

STRIDE = 32
"""Most decoders take pictures whose sides are a multiple of it."""


def names() -> list[str]:
    """The decoders, each with an encoder that stands for the hundreds of `timm`."""
    known = importlib.util.find_spec("segmentation_models_pytorch") is not None
    return [f"{decoder}:resnet18" for decoder in DECODERS] if known else []


def offer(name: str, wish: Wish) -> Offer:
    """The normalisation `timm` states for the encoder; pictures whose sides do not fit are resized to sides that do."""
    encoder = _parts(name)[1]
    stated = timm.offer(encoder, Wish(in_channels=wish.in_channels))
    arguments: dict[str, Any] = {"in_channels": wish.in_channels}
    if wish.num_classes is not None:
        arguments["classes"] = wish.num_classes
    native = None if wish.input_size is None else (_above(wish.input_size[0]), _above(wish.input_size[1]))
    return Offer(name, {**arguments, **wish.arguments}, stated.preprocess, native=native)


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """``segmentation_models_pytorch.create_model`` without pretrained weights."""
    refuse_fetching({key.replace("encoder_weights", "weights"): value for key, value in arguments.items()})
    decoder, encoder = _parts(name)
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise MissingExtra("models of smp/ need it: pip install 'tutelage[segmentation]'") from error
    model: nn.Module = smp.create_model(decoder, f"tu-{encoder}", encoder_weights=None, **arguments)
    return model


def _parts(name: str) -> tuple[str, str]:
    decoder, colon, encoder = name.partition(":")
    if decoder not in DECODERS:
        raise UnknownName(f"there is no decoder 'smp/{decoder}'. {close_names(decoder, DECODERS)}")
    if not colon or not encoder:
        raise UnknownName(f"expected smp/DECODER:ENCODER with an encoder of timm, found 'smp/{name}'.")
    return decoder, encoder


def _above(side: int) -> int:
    """The next multiple of the stride."""
    return -(-side // STRIDE) * STRIDE
