"""``hf/NAME``: image classifiers of `transformers`, by model type (``hf/vit``) or from a local folder."""

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

_NO_PICTURES = {"imagegpt"}
"""Model types that take a picture as a sequence of colours."""


def names() -> list[str]:
    """Model types with an image classifier that takes pictures."""
    if importlib.util.find_spec("transformers") is None:
        return []
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    return sorted(set(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES) - _NO_PICTURES)


def _architectures(name: str) -> list[str]:
    """The class for a model type: the first, where there are several."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    return [KNOWN[name]] if isinstance(KNOWN[name], str) else [KNOWN[name][0]]


def offer(name: str, wish: Wish) -> Offer:
    """A model type with its default configuration, or a folder with its own and the weights it holds."""
    folder = pathlib.Path(name)
    if (folder / "config.json").is_file():
        return _from_folder(folder, wish)
    _check(name)
    auto = _transformers().AutoConfig
    changes: dict[str, Any] = {} if wish.num_classes is None else {"num_labels": wish.num_classes}
    channels = 3
    if hasattr(auto.for_model(name), "num_channels"):
        changes["num_channels"] = channels = wish.in_channels
    config = auto.for_model(name, **{"architectures": _architectures(name), **changes, **wish.arguments})
    side, sized = getattr(config, "image_size", None), {}
    native = getattr(getattr(config, "vision_config", config), "image_size", None)
    if wish.input_size and side is not None:
        height, width = wish.input_size
        sized = {"image_size": height if height == width else [height, width]}
    return Offer(name, settled(config), Preprocess.normalising(channels), native=_pair(native), sized=sized)


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """``AutoModelForImageClassification.from_config``, answering with its logits."""
    refuse_fetching({key: value for key, value in arguments.items() if value})
    _check(name)
    transformers = _transformers()
    config = transformers.AutoConfig.for_model(name, **arguments)
    return Logits(transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=False))


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
    if wish.num_classes is not None and wish.num_classes != config.num_labels:
        config.num_labels = wish.num_classes
    channels = getattr(config, "num_channels", 3)
    has_weights = any(folder.glob("model*.safetensors"))

    def state() -> Mapping[str, Tensor]:
        model = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
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
    if name not in (known := names()):
        raise UnknownName(
            f"there is no image classifier 'hf/{name}': expected a model type, or a local folder with "
            f"config.json (nothing is fetched). {close_names(name, known)}"
        )


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("models of transformers need it: pip install 'tutelage[vision]'") from error
    return transformers
