"""``hf/NAME``: models of `transformers`, by model type or from a local folder.

``hf/vit`` is an image classifier, ``hf/segformer:segmentation`` answers for each pixel; a folder says which it is.
"""

import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tutelage.errors import MissingExtra, ModelError, UnknownName, close_names
from tutelage.models.logits import Logits
from tutelage.models.preprocess import Preprocess

from .base import Offer, Wish, refuse_fetching

PASSING = ("transformers_version", "_name_or_path", "dtype")
"""What a configuration says about a file or a version, not about the model."""

PIXELS = ":segmentation"
"""After a model type: the model that answers for each pixel."""

_NO_PICTURES = {"imagegpt"}
"""Model types that take a picture as a sequence of colours."""


def names() -> list[str]:
    """Model types with an image classifier that takes pictures, and those that answer for each pixel."""
    return sorted(_known())


def _known() -> dict[str, str]:
    """The class of each name: the first, where a model type has several."""
    if importlib.util.find_spec("transformers") is None:
        return {}
    from transformers.models.auto import modeling_auto as auto

    classes = {k: v for k, v in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.items() if k not in _NO_PICTURES}
    classes |= {f"{k}{PIXELS}": v for k, v in auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES.items()}
    return {name: found if isinstance(found, str) else found[0] for name, found in classes.items()}


def offer(name: str, wish: Wish) -> Offer:
    """A model type with its default configuration, or a folder with its own and the weights it holds."""
    folder = pathlib.Path(name)
    if (folder / "config.json").is_file():
        return _from_folder(folder, wish)
    _check(name)
    known = _known()
    architectures, name = [known.get(name) or known[f"{name}{PIXELS}"]], name.removesuffix(PIXELS)
    auto = _transformers().AutoConfig
    changes: dict[str, Any] = {} if wish.num_classes is None else {"num_labels": wish.num_classes}
    channels = 3
    if hasattr(auto.for_model(name), "num_channels"):
        changes["num_channels"] = channels = wish.in_channels
    config = auto.for_model(name, **{"architectures": architectures, **changes, **wish.arguments})
    side, sized = getattr(config, "image_size", None), {}
    native = getattr(getattr(config, "vision_config", config), "image_size", None)
    if wish.input_size and side is not None:
        height, width = wish.input_size
        sized = {"image_size": height if height == width else [height, width]}
    return Offer(name, settled(config), Preprocess.normalising(channels), native=_pair(native), sized=sized)


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The model of this configuration, with fresh weights, answering with its logits."""
    refuse_fetching({key: value for key, value in arguments.items() if value})
    _check(name)
    config = _transformers().AutoConfig.for_model(name, **arguments)
    return Logits(_auto(config).from_config(config, trust_remote_code=False))


def _auto(config: Any) -> Any:
    """What builds the model of a configuration: one that answers for each pixel where it says so."""
    by_pixel = _known().get(f"{config.model_type}{PIXELS}") in (config.architectures or [])
    transformers = _transformers()
    return transformers.AutoModelForSemanticSegmentation if by_pixel else transformers.AutoModelForImageClassification


def settled(config: Any) -> dict[str, Any]:
    """A configuration as JSON can hold it, from which the same model is built again."""
    kept = {key: value for key, value in config.to_dict().items() if key not in (*PASSING, "model_type")}
    stored: dict[str, Any] = json.loads(json.dumps(kept))
    return stored


def _from_folder(folder: pathlib.Path, wish: Wish) -> Offer:
    transformers = _transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"expected the configuration of a transformers model in {folder}, found: {error}") from error
    _check(config.model_type)
    auto = _auto(config)
    if wish.num_classes is not None and wish.num_classes != config.num_labels:
        config.num_labels = wish.num_classes
    channels = getattr(config, "num_channels", 3)
    has_weights = any(folder.glob("model*.safetensors"))

    def state() -> Mapping[str, Tensor]:
        model = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
        tensors: Mapping[str, Tensor] = model.state_dict()
        return tensors

    return Offer(
        config.model_type,
        {**settled(config), **wish.arguments},
        _stated(folder / "preprocessor_config.json", channels),
        native=_pair(getattr(config, "image_size", None)),
        state=state if has_weights else None,
    )


def _stated(file: pathlib.Path, channels: int) -> Preprocess:
    """The normalisation in a folder's ``preprocessor_config.json``; ImageNet's where there is none."""
    stated = json.loads(file.read_text()) if file.is_file() else {}
    if not {"image_mean", "image_std"} <= set(stated):
        return Preprocess.normalising(channels)
    return Preprocess.normalising(channels, tuple(stated["image_mean"]), tuple(stated["image_std"]))


def _pair(side: Any) -> tuple[int, int] | None:
    if side is None:
        return None
    return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))


def _check(name: str) -> None:
    _transformers()
    known = names()
    if name not in known and f"{name}{PIXELS}" not in known:
        raise UnknownName(
            f"there is no model 'hf/{name}': expected a model type, or a local folder with "
            f"config.json (nothing is fetched). {close_names(name, known)}"
        )


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("models of transformers need it: pip install 'tutelage[vision]'") from error
    return transformers
