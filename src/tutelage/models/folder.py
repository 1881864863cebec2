"""A trained model as a folder that loads without us: weights, JSON, a card, and a graph where needed."""

import contextlib
import copy
import importlib.metadata
import io
import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError

from .card import how_to_load
from .live import carry
from .logits import plain
from .preprocess import Preprocess
from .sources import LIBRARIES, factory
from .weights import fill, read

WEIGHTS, CONFIG, CARD, GRAPH = "model.safetensors", "config.json", "README.md", "model.pt2"
PACKAGES = (
    "tutelage", "torch", "torchvision", "timm", "transformers", "segmentation_models_pytorch", "safetensors",
)  # fmt: skip
_log = logging.getLogger(__name__)


Finish = Callable[[Tensor, Tensor], Tensor]
"""A model's output and the pictures -> the form the task wants."""


class Whole(nn.Module):
    """A model between its preprocess and its class order: from shared pictures to the user's classes."""

    def __init__(self, model: nn.Module, preprocess: Preprocess, finish: Finish | None = None) -> None:
        super().__init__()
        self.finish = finish
        self.model = model
        self.preprocess = preprocess

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits ``[B, C]`` of pictures ``[B, C_in, H, W]`` in [0, 1]."""
        output = self.preprocess.arrange(self.model(self.preprocess(pictures)))
        return output if self.finish is None else self.finish(output, pictures)


def save(
    model: nn.Module,
    folder: str | pathlib.Path,
    *,
    card: str,
    classes: Sequence[str],
    input_size: tuple[int, int],
    in_channels: int | None = None,
    extra: Mapping[str, Any] | None = None,
    finish: Finish | None = None,
    any_size: bool = False,
) -> None:
    """Write a model so that it loads without this library.

    ``model.safetensors`` holds the weights under the library's own names, ``config.json`` how to build it,
    ``README.md`` the card and the lines that load it. A model no other library carries comes with
    ``model.pt2``, made by `torch.export`: any batch, preprocess inside. Every file appears whole.

    Args:
        model: With `preprocess` and `origin`, as `find` returns it.
        folder: Made if it does not exist; files of an earlier model are replaced.
        card: What the model is and how good it is, in Markdown.
        classes: Names of the classes, in the order of the output.
        input_size: Height and width of the user's pictures.
        in_channels: Their channels; None: as many as the model takes.
        extra: Anything JSON can hold, kept in ``config.json`` under ``extra``.
        finish: The last step of the graph, `Task.finish`.
        any_size: Let the graph take pictures of any height and width.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    preprocess, origin = model.__dict__["preprocess"], model.__dict__["origin"]
    config = {
        "schema": 1,
        "origin": origin,
        "num_classes": len(classes) or None,
        "in_channels": in_channels or len(preprocess.mean),
        "input_size": list(input_size),
        **({"any_size": True} if any_size else {}),
        "preprocess": preprocess.to_dict(),
        "classes": list(classes),
        "versions": versions(),
        "extra": dict(extra or {}),
    }
    _write_weights(plain(model), folder / WEIGHTS)
    if graph := origin["library"] not in ("timm", "torchvision", "hf", "smp", "detector"):
        graph = _write_graph(model, config, folder / GRAPH, finish, any_size=any_size)
    text = f"{card.rstrip()}\n\n{how_to_load(config, graph=graph)}"
    with _whole(folder / CARD) as file:
        file.write_text(text, encoding="utf-8")
    with _whole(folder / CONFIG) as file:
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: str | pathlib.Path, *, allow_import: Sequence[str] = ()) -> nn.Module:
    """A model that `save` wrote, in training mode, with its `preprocess` and `origin`.

    Args:
        folder: That folder, or a run folder: then its ``student/``.
        allow_import: Top packages that may be imported, where a ``package.module:factory`` made the model.

    Raises:
        InputError: The factory's package is not allowed.
        ModelError: The folder is not one of ours or is damaged, or only the user's code can build its model.
    """
    config = read_config(folder)
    place, origin = config["folder"], config["origin"]
    library, name, arguments = origin["library"], origin["name"], origin["arguments"]
    if library in LIBRARIES:
        model = LIBRARIES[library].build(name, arguments)
    elif library == "factory":
        model = factory.build(name, arguments, allow_import=allow_import)
    else:
        raise ModelError(
            f"{place} holds the weights of a live module {name}, which its name does not say how to build. "
            f"Build it yourself and give it with the weights {place / WEIGHTS}, or see {place / CARD}."
        )
    carry(model, Preprocess.from_dict(config["preprocess"]), origin)
    fill(model, read(place / WEIGHTS), origin=str(place / WEIGHTS))
    return model


def is_folder(folder: str | pathlib.Path) -> bool:
    """Whether `save` wrote it, or wrote its ``student/``."""
    try:
        return bool(read_config(folder))
    except ModelError:
        return _place(folder) is not None


def read_config(folder: str | pathlib.Path) -> dict[str, Any]:
    """``config.json`` of a folder or of its ``student/``, and under ``folder`` where it was."""
    place = _place(folder)
    if place is None:
        raise ModelError(f"expected {CONFIG} in {folder} or in its student/, found none.")
    try:
        config = json.loads((place / CONFIG).read_text(encoding="utf-8"))
        Preprocess.from_dict(config["preprocess"])
        if not {"library", "name", "arguments"} <= set(config["origin"]) or "num_classes" not in config:
            raise KeyError("origin")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{place / CONFIG} is damaged, or is not a model of ours ({error}).") from error
    return {**config, "folder": place}


def versions() -> dict[str, str]:
    """Installed versions of what a model may need."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _place(folder: str | pathlib.Path) -> pathlib.Path | None:
    places = (pathlib.Path(folder) / "student", pathlib.Path(folder))
    return next((place for place in places if (place / CONFIG).is_file()), None)


def _write_weights(model: nn.Module, target: pathlib.Path) -> None:
    from safetensors.torch import save

    tensors = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in model.state_dict().items()
    }
    with _whole(target) as file:
        file.write_bytes(save(tensors, metadata={"format": "pt"}))


def _write_graph(
    model: nn.Module, config: Mapping[str, Any], target: pathlib.Path, finish: Finish | None, *, any_size: bool
) -> bool:
    """Export the whole of it; False where the model cannot be traced."""
    example = torch.zeros(2, config["in_channels"], *config["input_size"])
    archive = io.BytesIO()  # PyTorch aborts the process where it cannot finish an archive on disk
    try:
        whole = Whole(copy.deepcopy(model).cpu(), model.__dict__["preprocess"], finish).eval()
        with torch.no_grad():
            sides = {2: torch.export.Dim("height", min=8), 3: torch.export.Dim("width", min=8)} if any_size else {}
            free = {0: torch.export.Dim("batch"), **sides}
            program = torch.export.export(whole, (example,), dynamic_shapes={"pictures": free})
        torch.export.save(program, archive)
    except Exception as error:  # a trained model must be kept, whatever tracing makes of it
        _log.warning("no %s: the model cannot be exported (%s)", GRAPH, str(error).partition("\n")[0])
        target.unlink(missing_ok=True)
        return False
    with _whole(target) as file:
        file.write_bytes(archive.getbuffer())
    return True


@contextlib.contextmanager
def _whole(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new file beside the target that takes its place once it is complete."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as space:
        file = pathlib.Path(space) / target.name
        yield file
        os.replace(file, target)
