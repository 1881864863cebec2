"""``torchvision/NAME``: image classifiers, segmentation networks and detectors of `torchvision`."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.errors import MissingExtra, ModelError, UnknownName, close_names
from tutelage.models.logits import Logits
from tutelage.models.preprocess import Preprocess

from .base import Offer, Wish, refuse_fetching

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
"""One output also while training, and the initialisation that these two would warn about."""


DETECTORS = ("fcos_", "retinanet_", "ssd", "fasterrcnn_")
"""How the names of detectors begin that can be trained here."""


def names() -> list[str]:
    """All classifiers in `torchvision.models`, its networks for segmentation, and the detectors."""
    if importlib.util.find_spec("torchvision") is None:
        return []
    models = _models()
    detectors = [name for name in models.list_models(module=models.detection) if name.startswith(DETECTORS)]
    return [*models.list_models(module=models), *_dense(), *detectors]


def offer(name: str, wish: Wish) -> Offer:
    """Always three input channels, which a grey picture fills by repetition."""
    _check(name)
    if wish.in_channels not in (1, 3):
        raise ModelError(
            f"torchvision/{name} takes pictures of 3 channels, the data has {wish.in_channels}. "
            "timm/ has models for any number of channels."
        )
    if name.startswith(DETECTORS):
        return _detector(name, wish)
    arguments = {**OPTIONS.get(name, {})}
    if wish.num_classes is not None:
        arguments["num_classes"] = wish.num_classes
    side = 299 if name == "inception_v3" else 224
    return Offer(
        name,
        {**arguments, **wish.arguments},
        Preprocess.normalising(3),
        native=None if name in _dense() else (side, side),
        fixed=name.startswith(("vit_", "maxvit")),
        sized=_sized(name, wish.input_size),
    )


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """``torchvision.models.get_model`` without weights; of several maps, the one that counts."""
    refuse_fetching(arguments)
    _check(name)
    alone = {"weights_backbone": None} if name.startswith(DETECTORS) else {}
    if name in _dense():
        return Logits(_models().get_model(name, weights=None, weights_backbone=None, **arguments), field="out")
    model: nn.Module = _models().get_model(name, weights=None, **alone, **arguments)
    return model


def _detector(name: str, wish: Wish) -> Offer:
    """It normalises and scales by itself; its class 0 is the background. Pictures keep their size if it lets them."""
    arguments: dict[str, Any] = {}
    if wish.num_classes is not None:
        arguments["num_classes"] = wish.num_classes + 1
    if wish.input_size is not None and not name.startswith("ssd"):
        arguments |= {"min_size": min(wish.input_size), "max_size": max(wish.input_size)}
    return Offer(name, {**arguments, **wish.arguments}, Preprocess.identity(3))


def _dense() -> list[str]:
    """Networks for segmentation."""
    models = _models()
    return list(models.list_models(module=models.segmentation))


def _sized(name: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """The argument that makes a transformer for another size."""
    if size and name.startswith("vit_") and size[0] == size[1]:
        return {"image_size": size[0]}
    return {"input_size": list(size)} if size and name.startswith("maxvit") else {}


def _check(name: str) -> None:
    if name not in (known := names() or _models().list_models()):
        raise UnknownName(f"there is no model 'torchvision/{name}'. {close_names(name, known)}")


def _models() -> Any:
    try:
        import torchvision.models
        import torchvision.models.segmentation
    except ImportError as error:
        raise MissingExtra("models of torchvision need it: pip install 'tutelage[train]'") from error
    return torchvision.models
