"""Finding a model by what the user wrote: ``[NAME=]MODEL[@WEIGHTS]``."""

import contextlib
import difflib
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import InputError, MissingExtra, ModelError, OtherClasses, UnknownName, close_names
from tutelage.foreign import called

from .detectors import is_detector
from .folder import is_folder, load, read_config
from .live import adopt, carry, shown
from .preprocess import Preprocess
from .sources import LIBRARIES, Offer, Wish, factory
from .weights import fill, load_backbone, load_weights

Fits = Callable[[Any, Tensor], str | None]
"""``fits(output, pictures)``: what a model should have answered, in words; None where it is right."""


@dataclass(frozen=True)
class Named:
    """A model as it was written down.

    Args:
        name: What it is called in recipes and reports.
        source: What `find` takes.
        weights: A file of weights, or None.
    """

    name: str
    source: str
    weights: str | None = None


def parse(text: str) -> Named:
    """Read ``[NAME=]MODEL[@WEIGHTS]``. Looks at nothing but the text.

    Args:
        text: What the user wrote.

    Returns:
        Its parts. Without a name, one is made of the model's last part.

    Raises:
        InputError: A part is empty, or the name is not made of letters, digits, ``_`` and ``-``.

    Example:
        >>> parse("big=cifar/resnet56@big.safetensors")
        Named(name='big', source='cifar/resnet56', weights='big.safetensors')
        >>> [parse(text).name for text in ("timm/resnet50.a1_in1k", "runs/wide/student", "mylab.nets:tiny")]
        ['resnet50_a1_in1k', 'wide', 'tiny']
    """
    text = text.strip()
    name, equals, rest = text.partition("=")
    if not equals or re.search(r"[/@:]", name):  # then it belongs to a path
        name, rest = "", text
    source, at, weights = rest.partition("@")
    if not source or (at and not weights) or (equals and text.startswith("=")):
        raise InputError(f"expected a model as [NAME=]MODEL[@WEIGHTS], found {text!r}.")
    name = name or _slug(source)
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"expected a name of letters, digits, _ and - for {text!r}, found {name!r}.")
    return Named(name, source, weights or None)


def find(
    source: str | nn.Module,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    input_size: tuple[int, int] | None = None,
    weights: str | pathlib.Path | None = None,
    new_classifier: bool = False,
    arguments: Mapping[str, Any] | None = None,
    allow_import: Sequence[str] = (),
    seed: int | None = None,
    fits: Fits | None = None,
) -> nn.Module:
    """The model a string stands for. Nothing is fetched from the network.

    It carries ``model.preprocess`` (its own normalisation and size) and ``model.origin`` (how to build it
    again). A model keeps the size of the user's pictures where its architecture takes it, as it is or built
    for it; otherwise its preprocess resizes.

    Args:
        source: ``cifar/NAME``, ``timm/NAME``, ``torchvision/NAME``, ``smp/DECODER:ENCODER``, ``hf/NAME`` (a model
            type, or a local folder with config.json), ``package.module:factory``, a run folder or its ``student/``, or
            a live module.
        num_classes: Columns of the output; None: the library's default, or what a folder says.
        in_channels: Channels of the user's pictures.
        input_size: Their height and width, where known.
        weights: A file for `load_weights`.
        new_classifier: Where weights or folder are for other classes, start with a new classifier.
        arguments: Further arguments for the library's own constructor or configuration.
        allow_import: Top packages that may be imported for ``package.module:factory``.
        seed: Initial weights depend on it alone, and torch's global generator stays as it was.
        fits: ``fits(output, pictures)`` says in words what a model should have answered, None where it is right; by
            default logits, as `Task.fits` of classification. It is asked about one picture, where the size is known.

    Returns:
        The model, in training mode. A live module is returned itself, unless it is wrapped or answers with a record.

    Raises:
        UnknownName: There is no such model.
        InputError: A factory's package is not allowed.
        ModelError: The model cannot be built, its weights do not fit, or it answers with something else.
        MissingExtra: The library is not installed.

    Example:
        >>> model = find("cifar/resnet8", num_classes=5, in_channels=1, seed=0)
        >>> model.origin["arguments"]
        {'num_classes': 5, 'in_channels': 1}
        >>> model(model.preprocess(torch.rand(2, 1, 8, 8))).shape
        torch.Size([2, 5])
    """
    wish = Wish(num_classes, in_channels, input_size, dict(arguments or {}))
    if isinstance(source, str) and source.partition("/")[0] in LIBRARIES:
        return _from_library(source, wish, weights, new_classifier=new_classifier, seed=seed, fits=fits)
    if isinstance(source, str) and is_folder(source):
        ways: dict[str, Any] = {"new_classifier": new_classifier, "seed": seed, "fits": fits}
        return _from_folder(source, wish, weights, allow_import=allow_import, **ways)
    with _seeded(seed):
        if isinstance(source, nn.Module):
            model, name = adopt(source, in_channels=in_channels), type(source).__name__
        elif ":" in source:
            model, name = _from_factory(source, wish, allow_import), source
        else:
            raise UnknownName(_unknown(source))
        if weights is not None:
            _load(model, weights, new_classifier=new_classifier)
        if input_size is not None and not getattr(model, "sees_truth", False):  # that one takes larger pictures
            _try_own(name, model, wish, fits)
    return model


def names(prefix: str = "") -> list[str]:
    """Models that can be found by name, of our own and of the libraries that are installed.

    Args:
        prefix: Only names that start with it; one such as ``cifar/`` spares importing the others.

    Returns:
        Sorted names.

    Example:
        >>> names("cifar/wrn")
        ['cifar/wrn_16_2', 'cifar/wrn_40_2']
    """
    wanted = {
        word: source
        for word, source in LIBRARIES.items()
        if f"{word}/".startswith(prefix) or prefix.startswith(f"{word}/")
    }
    known = (f"{word}/{name}" for word, source in wanted.items() for name in source.names())
    return sorted(name for name in known if name.startswith(prefix))


def _from_library(
    text: str, wish: Wish, weights: str | pathlib.Path | None, *, new_classifier: bool, seed: int | None,
    fits: Fits | None,
) -> nn.Module:  # fmt: skip
    word, _, name = text.partition("/")
    source = LIBRARIES[word]
    offer = source.offer(name, wish)
    problems: list[Exception] = []
    for arguments, size in _plans(offer, wish):
        try:
            with _seeded(seed):
                model = source.build(offer.name, arguments)
            origin = {"library": word, "name": offer.name, "arguments": dict(arguments), "weights": None}
            carry(model, replace(offer.preprocess, size=size), origin)
            if offer.state is not None and weights is None:
                _note(model, name, fill(model, offer.state(), origin=name, new_classifier=new_classifier))
            if weights is not None:
                _load(model, weights, new_classifier=new_classifier)
            if wish.input_size is not None and (wrong := _try(model, wish, fits)) is not None:
                problems.append(ModelError(wrong))
                continue
            return model
        except (UnknownName, MissingExtra):
            raise
        except Exception as error:  # a library may refuse a size with any kind of error
            problems.append(error)
    raise _shortest(problems, text)


def _plans(offer: Offer, wish: Wish) -> Iterator[tuple[Mapping[str, Any], tuple[int, int] | None]]:
    """Ways to build a model, best first: its arguments, and what its preprocess resizes to."""
    if wish.input_size is None:
        yield offer.arguments, offer.native if offer.fixed else None
        return
    if offer.sized and offer.native != wish.input_size:
        yield {**offer.arguments, **offer.sized, **wish.arguments}, None
    yield offer.arguments, None
    if offer.native is not None:
        yield offer.arguments, offer.native


def _try(model: nn.Module, wish: Wish, fits: Fits | None) -> str | None:
    """What is wrong with the answer to one picture of the user's size; None where it is right."""
    picture = torch.zeros(1, wish.in_channels, *(wish.input_size or ()))
    output = shown(model, picture)
    if isinstance(output, Tensor):
        output = model.__dict__["preprocess"].arrange(output)
    if fits is not None:
        expected = fits(output, picture)
    else:  # nobody says what for: a classifier, or a detector
        expected = None if is_detector(model) else _logits(output, wish.num_classes)
    found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
    return None if expected is None else f"expected {expected} for one picture, found {found}."


def _try_own(name: str, model: nn.Module, wish: Wish, fits: Fits | None) -> None:
    """Raise a `ModelError` where the user's own code fails on a picture, or answers with something else."""
    what = f"{name} on a picture {[1, wish.in_channels, *(wish.input_size or ())]}"
    if (wrong := called(what, lambda: _try(model, wish, fits), ModelError)) is not None:
        mend = "Change its last layer, or put it inside a module whose forward gives that alone."
        raise ModelError(f"{name}: {wrong} {mend}")


def _logits(output: Any, columns: int | None) -> str | None:
    """What was expected where the output is no logits for one picture."""
    if isinstance(output, Tensor) and output.dim() == 2 and columns in (None, output.shape[1]):
        return None
    return f"logits {[1, 'classes' if columns is None else columns]}"


def _shortest(problems: Sequence[Exception], text: str) -> ModelError:
    """The problem of the plan that came closest."""
    mismatches = [problem for problem in problems if isinstance(problem, ModelError)]
    if mismatches:
        return min(mismatches, key=lambda problem: len(str(problem)))
    said = (line.strip() for line in str(problems[-1]).splitlines())
    reason = next(filter(None, said), type(problems[-1]).__name__)
    error = ModelError(f"{text} cannot be built for this data: {reason}")
    error.__cause__ = problems[-1]
    return error


def _from_folder(
    source: str,
    wish: Wish,
    weights: str | pathlib.Path | None,
    *,
    new_classifier: bool,
    allow_import: Sequence[str],
    seed: int | None,
    fits: Fits | None,
) -> nn.Module:
    config = read_config(source)
    library, classes = config["origin"]["library"], config["num_classes"]
    if wish.num_classes is None or classes in (None, wish.num_classes):
        model = load(source, allow_import=allow_import)
        if weights is not None:
            _load(model, weights, new_classifier=new_classifier)
        return model
    if not new_classifier or library not in LIBRARIES:
        raise OtherClasses(source, classes, wish.num_classes)
    # As it was built, but for other classes: sizes and widths stay, whatever the data is.
    kept = {
        key: value
        for key, value in config["origin"]["arguments"].items()
        if key not in ("num_classes", "num_labels", "classes", "id2label", "label2id")
    }
    stored = Preprocess.from_dict(config["preprocess"])
    again = Wish(wish.num_classes, len(stored.mean), None, kept)
    file = weights or config["folder"] / "model.safetensors"
    name = f"{library}/{config['origin']['name']}"
    model = _from_library(name, again, file, new_classifier=True, seed=seed, fits=fits)
    return carry(model, replace(stored, classes=None), model.__dict__["origin"])


def _from_factory(source: str, wish: Wish, allow_import: Sequence[str]) -> nn.Module:
    wishes = {"num_classes": wish.num_classes, "in_channels": wish.in_channels, "input_size": wish.input_size}
    arguments = factory.accepted(source, wishes, allow_import=allow_import) | dict(wish.arguments)
    model = adopt(factory.build(source, arguments, allow_import=allow_import), in_channels=wish.in_channels)
    origin = {"library": "factory", "name": source, "arguments": arguments, "weights": None}
    model.__dict__["origin"] = origin
    return model


def _load(model: nn.Module, weights: str | pathlib.Path, *, new_classifier: bool) -> None:
    if is_detector(model) and (notes := load_backbone(model.backbone, weights)):  # type: ignore[arg-type]
        _note(model, str(weights), notes)
        return
    _note(model, str(weights), load_weights(model, weights, new_classifier=new_classifier))


def _note(model: nn.Module, weights: str, notes: list[str]) -> None:
    origin = {**model.__dict__["origin"], "weights": pathlib.PurePath(weights).name}
    model.__dict__["origin"] = {**origin, "notes": notes} if notes else origin


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Initial weights that depend on the seed alone, and leave the global generator as it was."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _unknown(source: str) -> str:
    if pathlib.Path(source).is_dir():
        return f"{source} is a folder, but holds no student/config.json or config.json of ours."
    told = (
        f"there is no model {source!r}: expected cifar/NAME, timm/NAME, torchvision/NAME, hf/NAME, "
        "smp/DECODER:ENCODER, package.module:factory or a run folder."
    )
    word, slash, name = source.rpartition("/")
    if "/" in word or source.startswith((".", "~")):
        return f"{told} There is no such folder."
    # A bare name may be one of any library; a misspelt library is told by what is close to it.
    meant = difflib.get_close_matches(word, LIBRARIES, n=1) if slash else []
    if not slash:
        meant = [library for library in LIBRARIES if name in LIBRARIES[library].names()]
    if meant:
        return f"{told} close: {', '.join(f'{library}/{name}' for library in meant)}"
    return f"{told} {close_names(source, names('cifar/'))}"


def _slug(source: str) -> str:
    parts = [part for part in re.split(r"[/:]", source) if part not in ("", ".")]
    if len(parts) > 1 and parts[-1] in ("student", "baseline"):
        parts.pop()
    return re.sub(r"[^\w-]+", "_", parts[-1]).strip("_") if parts else ""
