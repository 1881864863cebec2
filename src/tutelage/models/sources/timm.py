"""``timm/NAME``: models of `timm`, with or without a tag such as ``resnet50.a1_in1k``."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.errors import MissingExtra, UnknownName, close_names
from tutelage.models.preprocess import Preprocess

from .base import Offer, Wish, refuse_fetching


def names() -> list[str]:
    """All of `timm.list_models`."""
    return list(_timm().list_models()) if importlib.util.find_spec("timm") else []


def offer(name: str, wish: Wish) -> Offer:
    """Mean, std and size as `timm` states them for the model's weights."""
    stated = _stated(name)
    arguments: dict[str, Any] = {"in_chans": wish.in_channels}
    if wish.num_classes is not None:
        arguments["num_classes"] = wish.num_classes
    height, width = stated.input_size[-2:]
    return Offer(
        name,
        {**arguments, **wish.arguments},
        Preprocess.normalising(wish.in_channels, tuple(stated.mean), tuple(stated.std)),
        native=(height, width),
        fixed=stated.fixed_input_size,
        sized={"img_size": list(wish.input_size)} if wish.input_size and stated.fixed_input_size else {},
    )


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """``timm.create_model`` without pretrained weights."""
    refuse_fetching(arguments)
    _stated(name)
    model: nn.Module = _timm().create_model(name, pretrained=False, **arguments)
    return model


def _stated(name: str) -> Any:
    """What timm states about a model. Names that would make it open a hub or a folder are unknown."""
    timm = _timm()
    plain = name.partition(".")[0]
    if not timm.is_model(plain):
        raise UnknownName(f"there is no model 'timm/{name}'. {close_names(plain, timm.list_models())}")
    try:
        stated = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        tagged = timm.list_models(f"{plain}.*", pretrained=True)
        raise UnknownName(f"there is no model 'timm/{name}'. {close_names(name, [plain, *tagged])}") from error
    return timm.models.PretrainedCfg() if stated is None else stated


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("models of timm need it: pip install 'tutelage[vision]'") from error
    return timm
