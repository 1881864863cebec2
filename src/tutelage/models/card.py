"""The lines of a model card that say how to load the model without this library."""

import inspect
from collections.abc import Mapping
from typing import Any

from .sources.detector import FAMILIES, pyramid_detector
from .sources.torchvision import DETECTORS

READ = "from safetensors.torch import load_file"
FILL = 'model.load_state_dict(load_file("model.safetensors"))'


def how_to_load(config: Mapping[str, Any], *, graph: bool) -> str:
    """A section of Markdown: code that defines ``predict(pictures)``, to be run in the model's folder.

    Args:
        config: What ``config.json`` holds.
        graph: Whether there is a ``model.pt2``.
    """
    library, name = config["origin"]["library"], config["origin"]["name"]
    height, width = ("H", "W") if config.get("any_size") else config["input_size"]
    pictures = f"float [B, {config['in_channels']}, {height}, {width}] in 0..1"
    lines = ["## Loading it", ""]
    if library == "detector" or (library == "torchvision" and name.startswith(DETECTORS)):
        code = _detector(config, pictures)
        needs = "`torchvision` and `timm`" if library == "detector" else "`torchvision`"
        lines += [f"With `torch`, `safetensors`, {needs}, in this folder:", ""]
    elif library in ("timm", "torchvision", "hf", "smp"):
        code = [*_build(config), "model.eval()", "", *_predict(config, pictures)]
        lines += [f"With `torch`, `safetensors` and `{_package(library)}`, in this folder:", ""]
    elif graph:
        code = [
            "import torch",
            "",
            'model = torch.export.load("model.pt2").module()',
            "",
            "",
            f"def predict(pictures):  # {pictures}",
            "    with torch.no_grad():",
            "        return model(pictures)",
        ]
        lines += ["With `torch`, in this folder; normalisation is inside. Open only files you trust.", ""]
    else:
        return "\n".join(
            [
                *lines,
                f"`model.safetensors` holds the state dict of `{name}`; build that module and fill it.",
                "",
            ]
        )
    classes = [f"Classes, in the order of the output: {', '.join(config['classes'])}.", ""]
    return "\n".join([*lines, "```python", *code, "```", "", *(classes if config["classes"] else [])])


def _build(config: Mapping[str, Any]) -> list[str]:
    """Lines that build the model of a library and fill it."""
    library, name, arguments = (config["origin"][key] for key in ("library", "name", "arguments"))
    if library == "hf":
        return [
            "import json",
            "",
            "import torch",
            "from safetensors.torch import load_file",
            "from transformers import AutoConfig, AutoModelForImageClassification",
            "",
            'stored = json.load(open("config.json"))["origin"]["arguments"]',
            f"config = AutoConfig.for_model({name!r}, **stored)",
            "model = AutoModelForImageClassification.from_config(config)",
            FILL,
        ]
    if library == "smp":
        decoder, _, encoder = name.partition(":")
        given = "".join(f", {key}={value!r}" for key, value in arguments.items())
        return [
            "import segmentation_models_pytorch as smp",
            "import torch",
            READ,
            "",
            f'model = smp.create_model({decoder!r}, "tu-{encoder}", encoder_weights=None{given})',
            FILL,
        ]
    if _is_torchvision_dense(config):
        arguments = {"weights_backbone": None, **arguments}
    call = "timm.create_model" if library == "timm" else "torchvision.models.get_model"
    given = ", ".join([repr(name), *(f"{key}={value!r}" for key, value in arguments.items())])
    return [
        *(["import timm", "import torch"] if library == "timm" else ["import torch", "import torchvision"]),
        READ,
        "",
        f"model = {call}({given})",
        FILL,
    ]


def _detector(config: Mapping[str, Any], pictures: str) -> list[str]:
    """Lines that build a detector, fill it, and define ``predict``."""
    name, arguments = config["origin"]["name"], config["origin"]["arguments"]
    given = "".join(f", {key}={value!r}" for key, value in arguments.items())
    if config["origin"]["library"] == "detector":
        family, _, backbone = name.partition("-")
        build = ["from collections.abc import Callable, Sequence", "from functools import partial"]
        build += ["from typing import Any", "", "import torch", "from torch import Tensor, nn", READ, "", ""]
        for part in (*FAMILIES[family], pyramid_detector):
            build += [*inspect.getsource(part).splitlines(), "", ""]
        build += [f"FAMILIES = {{{family!r}: ({', '.join(part.__name__ for part in FAMILIES[family])})}}"]
        build += [f"model = pyramid_detector({family!r}, {backbone!r}{given})"]
    else:
        call = f"torchvision.models.get_model({name!r}, weights=None, weights_backbone=None{given})"
        build = ["import torch", "import torchvision", READ, "", f"model = {call}"]
    return [
        *build,
        FILL,
        "model.eval()",
        "",
        "",
        f"def predict(pictures):  # {pictures}",
        "    with torch.no_grad():",
        "        return model(list(pictures))  # boxes, scores, and labels from 1",
    ]


def _predict(config: Mapping[str, Any], pictures: str) -> list[str]:
    """Lines of a function from pictures to logits."""
    preprocess, lines = config["preprocess"], [f"def predict(pictures):  # {pictures}"]
    if _is_dense(config):
        lines += ["    grid = pictures.shape[-2:]"]
    if (size := preprocess["size"]) is not None and list(size) != list(config["input_size"]):
        lines += [
            "    pictures = torch.nn.functional.interpolate(",
            f'        pictures, {tuple(size)}, mode="bilinear", antialias=True',
            "    )",
        ]
    lines += [
        f"    mean = torch.tensor({_short(preprocess['mean'])}).view(-1, 1, 1)",
        f"    std = torch.tensor({_short(preprocess['std'])}).view(-1, 1, 1)",
        "    with torch.no_grad():",
        f"        logits = model((pictures - mean) / std){_field(config)}",
    ]
    if _is_dense(config):
        lines += ['    logits = torch.nn.functional.interpolate(logits, grid, mode="bilinear")']
    order = preprocess["classes"]
    return ["", *lines, f"    return logits[:, {order}]" if order else "    return logits"]


def _short(values: list[float]) -> list[float]:
    return [round(value, 6) for value in values]


def _field(config: Mapping[str, Any]) -> str:
    """Which field of its answer holds the logits."""
    if _is_hf(config):
        return ".logits"
    return '["out"]' if _is_torchvision_dense(config) else ""


def _is_hf(config: Mapping[str, Any]) -> bool:
    return bool(config["origin"]["library"] == "hf")


def _is_torchvision_dense(config: Mapping[str, Any]) -> bool:
    """Whether it answers with a record of maps."""
    name = config["origin"]["name"]
    return bool(config["origin"]["library"] == "torchvision" and name.startswith(("deeplabv3", "fcn_", "lraspp")))


def _is_dense(config: Mapping[str, Any]) -> bool:
    """Whether it answers with a map of logits."""
    return bool(config["origin"]["library"] == "smp" or _is_torchvision_dense(config))


def _package(library: str) -> str:
    return {"hf": "transformers", "smp": "segmentation_models_pytorch"}.get(library, library)
