"""Weights from a file into a model, or a message that says why they do not fit."""

import argparse
import logging
import pathlib
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError, OtherClasses

from .logits import plain

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts put the state dict of what they trained."""

State = Mapping[str, Tensor]
Misfits = tuple[list[str], list[str], list[str]]
"""Names the file lacks, names only the file has, names with other shapes."""
_log = logging.getLogger(__name__)


def load_weights(model: nn.Module, file: str | pathlib.Path, *, new_classifier: bool = False) -> list[str]:
    """Fill a model with the weights of a file.

    Args:
        model: Changed in place, and only if everything fits.
        file: ``.safetensors``, or ``.pt``, ``.pth``, ``.th`` with nothing but tensors and plain containers: a
            file with code in it is refused, and the code does not run.
        new_classifier: Keep the model's own classifier where the file's is for another number of classes.

    Returns:
        What was done on the way, one sentence each: wrappers and prefixes removed, a classifier kept.

    Raises:
        ModelError: The file is missing, damaged or not of these kinds, holds code, or does not fit the model.

    Example:
        >>> import tempfile, torch
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "old.pth"
        >>> layer = torch.nn.Linear(2, 3)
        >>> torch.save({"state_dict": {f"module.{k}": v for k, v in layer.state_dict().items()}}, file)
        >>> load_weights(torch.nn.Linear(2, 3), file)
        ["took the weights under 'state_dict'", "removed the prefix 'module.'"]
    """
    file = pathlib.Path(file)
    state, notes = _unwrap(read(file), file)
    return notes + fill(model, state, origin=file.name, new_classifier=new_classifier)


def load_backbone(backbone: nn.Module, file: str | pathlib.Path) -> list[str]:
    """Fill the backbone of a detector with the weights of a classifier.

    Args:
        backbone: The detector's; where it has a pyramid on top, that stays as it is. Changed in place, and only if the
            file holds all of it.
        file: As for `load_weights`.

    Returns:
        What was done; empty, and nothing is changed, where the file is none of a classifier with this backbone.

    Raises:
        ModelError: The file is missing, damaged, or holds code.
    """
    state, notes = _unwrap(read(pathlib.Path(file)), pathlib.Path(file))
    body: Any = getattr(backbone, "body", backbone)
    own = body.state_dict()
    for prefix in ("", "features."):
        found = {key: state[prefix + key] for key in own if prefix + key in state and not key.startswith("fpn.")}
        if set(own) - set(found) <= {key for key in own if key.endswith("num_batches_tracked")} and all(
            tensor.shape == own[key].shape for key, tensor in found.items()
        ):
            body.load_state_dict({**own, **found})
            unused = len(state) - len(found)
            return [*notes, f"took the weights of the backbone; the rest starts fresh ({unused} tensors are not used)"]
    return []


def read(file: pathlib.Path) -> Any:
    """What a file of weights holds, without running code from it."""
    if not file.is_file():
        what = "a folder" if file.is_dir() else "no such file"
        raise ModelError(f"expected a file of weights at {file}, found {what}.")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    if file.suffix in (".pt", ".pth", ".th"):
        return _read_pickle(file)
    raise ModelError(f"expected weights as .safetensors, .pt, .pth or .th, found {file.name}.")


def fill(model: nn.Module, state: State, *, origin: str, new_classifier: bool = False) -> list[str]:
    """Fill a model with a state dict; see `load_weights`.

    Args:
        model: Changed in place, and only if everything fits.
        state: Names and tensors.
        origin: What messages call the weights.
        new_classifier: Keep the model's own classifier where the other is for another number of classes. Weights of a
            classifier on the same encoder then fill the encoder of a segmentation network.

    Returns:
        What was done on the way.

    Raises:
        ModelError: They do not fit.
    """
    target = plain(model)
    encoder = _encoder(target, state) if new_classifier else None
    if encoder is not None:
        return _fill_encoder(encoder, state, origin)
    own = target.state_dict()
    state, notes = _without_prefix(state, own)
    wrong = [key for key in state if key in own and state[key].shape != own[key].shape]
    head = _other_classifier(wrong, state, own)
    if head is not None and new_classifier:
        state = {key: tensor for key, tensor in state.items() if key not in wrong}
        notes.append(f"kept a new classifier for {head[1]} classes, where {origin} has {head[0]}")
    else:
        head = None
    counters = {key: own[key] for key in own if key.endswith("num_batches_tracked")}  # older files lack them
    missing = [key for key in own if key not in state and key not in counters and not (head and key in wrong)]
    unexpected = [key for key in state if key not in own]
    if missing or unexpected or (wrong and head is None):
        raise _misfit(model, origin, state, own, (missing, unexpected, wrong))
    target.load_state_dict({**own, **state})
    for note in notes:
        _log.info("%s: %s", origin, note)
    return notes


def _encoder(model: nn.Module, state: State) -> nn.Module | None:
    """The encoder of a model of encoder and decoder, where the weights are those of a classifier on that encoder."""
    for name in ("encoder.model", "encoder", "backbone"):
        part = model
        for step in name.split("."):
            part = getattr(part, step, None)  # type: ignore[assignment]
        own = part.state_dict() if isinstance(part, nn.Module) else {}
        if own and not any(f"{name}.{key}" in state for key in own):
            fits = [key in state and state[key].shape == value.shape for key, value in own.items() if value.dim()]
            if fits and all(fits):
                return part
    return None


def _fill_encoder(encoder: nn.Module, state: State, origin: str) -> list[str]:
    own = encoder.state_dict()
    encoder.load_state_dict({**own, **{key: state[key] for key in own if key in state}})
    left = sorted({key.partition(".")[0] for key in state if key not in own})
    told = f"; {_few(left)} of it are left out" if left else ""
    note = f"the encoder starts from {origin}{told}, the decoder from new weights"
    _log.info("%s", note)
    return [note]


def _read_safetensors(file: pathlib.Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ModelError(f"{file} is damaged, cut short or not a safetensors file.") from error


def _read_pickle(file: pathlib.Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):  # options are no code
            warnings.simplefilter("ignore", UserWarning)  # advice to those who wrote the file
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ModelError(
                f"{file} holds more than tensors ({found[1]}): opening it would run code, so it was not "
                "opened. Save the state dict alone, best as .safetensors."
            ) from error
        if _is_bare_pickle(file):
            raise ModelError(
                f"{file} is a pickle and no file of torch.save: opening it could run code, so it was not opened. Save "
                "the state dict alone, best as .safetensors."
            ) from error
        raise ModelError(f"{file} is damaged, cut short or not a file of torch.save.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file} is damaged, cut short or not a file of torch.save.") from error


def _is_bare_pickle(file: pathlib.Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(1) == pickle.PROTO


def _unwrap(found: Any, file: pathlib.Path) -> tuple[State, list[str]]:
    notes: list[str] = []
    while isinstance(found, Mapping) and not _is_state(found):
        key = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if key is None:
            break
        found = found[key]
        notes.append(f"took the weights under {key!r}")
    if not _is_state(found):
        holds = f"the keys {_few(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
        raise ModelError(f"expected a state dict of named tensors in {file}, found {holds}.")
    return found, notes


def _is_state(found: Any) -> bool:
    return isinstance(found, Mapping) and bool(found) and all(isinstance(v, Tensor) for v in found.values())


def _without_prefix(state: State, own: State) -> tuple[State, list[str]]:
    """Remove what wrappers (``module.``) and training modules (``model.``) put before every name."""
    notes: list[str] = []
    while not any(key in own for key in state):
        prefix = next(iter(state)).partition(".")[0] + "."
        if not all(key.startswith(prefix) and key != prefix for key in state):
            break
        shorter = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        if prefix not in ("module.", "_orig_mod.") and not any(key.startswith(_first(own)) for key in shorter):
            break
        state = shorter
        notes.append(f"removed the prefix {prefix!r}")
    return state, notes


def _first(own: State) -> tuple[str, ...]:
    return tuple({key.partition(".")[0] for key in own})


def _other_classifier(wrong: list[str], state: State, own: State) -> tuple[int, int] | None:
    """(found, expected) classes where the wrong shapes are those of a classifier alone."""
    pairs = {(state[key].shape[:1], own[key].shape[:1]) for key in wrong if own[key].dim() and state[key].dim()}
    alike = all(state[key].shape[1:] == own[key].shape[1:] for key in wrong)
    modules = {key.rpartition(".")[0] for key in wrong}
    convolutions = any(own[key].dim() > 2 and max(own[key].shape[2:]) > 1 for key in wrong)
    if len(pairs) != 1 or not alike or convolutions or len(modules) > 2:
        return None
    found, expected = next(iter(pairs))
    return found[0], expected[0]


def _misfit(model: nn.Module, origin: str, state: State, own: State, misfits: Misfits) -> ModelError:
    missing, unexpected, wrong = misfits
    head = _other_classifier(wrong, state, own)
    if head and not missing and not unexpected:
        return OtherClasses(origin, *head)
    named: Mapping[str, Any] = getattr(model, "origin", None) or {}
    name = f"{named['library']}/{named['name']}" if named else type(model).__name__
    lines = [f"the weights in {origin} do not fit {name}."]
    if missing:
        lines.append(f"missing {len(missing)} of {len(own)}: {_few(missing)}")
    if unexpected:
        lines.append(f"unexpected {len(unexpected)} of {len(state)}: {_few(unexpected)}")
    if wrong:
        shapes = [f"{k} expected {list(own[k].shape)}, found {list(state[k].shape)}" for k in wrong]
        lines.append(f"other shapes {len(wrong)}: {_few(shapes, '; ')}")
    return ModelError("\n    ".join(lines))


def _few(names: Iterable[str], comma: str = ", ", most: int = 4) -> str:
    known = list(names)
    return comma.join(known[:most]) + (f"{comma}…" if len(known) > most else "")
