"""Read named tensors of any model during one forward.

A tap is a string:

=====================  ==============================================================================
``"layer3"``           what that submodule gives
``"layers.3:map"``     the same of a module that keeps channels last (Swin), as a map ``[B, C, H, W]``
``"fc:input"``         the first tensor that submodule is given
``"conv:pooled"``      the same averaged over its grid or tokens, ``[B, D]``
``"layer3:rms"``       the root mean square over channels of a map ``[B, 1, H, W]`` or of tokens ``[B, T, 1]``; behind
                       any other ending
``"head.conv:0"``      what a module that runs several times in one forward gives first (``":1"`` second, …);
                       ``"head.conv:0:input"`` what it is given then
``""``                 what the call itself returns
=====================  ==============================================================================

The model stays what it was: hooks live only as long as the forward, so it can be copied,
pickled, exported, and tapped by several at once. (Left in place they would save 70 microseconds
a forward, of the 150 milliseconds of a step of ResNet-8 on 64 pictures.)
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError, TapNotFound, close_names

INPUT = ":input"
"""What a tap ends in when it reads what a module was given instead of what it gave."""

POOLED = ":pooled"
"""What a tap ends in when it averages what a module was given to one vector per sample."""

MAP = ":map"
"""What a tap ends in when it moves the channels of ``[B, H, W, C]`` to the front."""

RMS = ":rms"
"""What a tap ends in when of all channels their root mean square is left: all that `attention` asks of a teacher."""

RUN = re.compile(rf":(\d+)(?=({INPUT}|{POOLED}|{MAP})?$)")
"""What stands behind a module, and before the other endings, when a tap reads one of its runs, counted from 0."""


def module_name(tap: str) -> str:
    """The module a tap belongs to.

    Example:
        >>> module_name("fc:input"), module_name("layers.3:map"), module_name("layer3"), module_name("head.conv:2")
        ('fc', 'layers.3', 'layer3', 'head.conv')
    """
    return RUN.sub("", tap.removesuffix(RMS)).removesuffix(INPUT).removesuffix(POOLED).removesuffix(MAP)


def reads_input(tap: str) -> bool:
    """Whether a tap reads what its module is given, and not what it gives."""
    return tap.removesuffix(RMS).endswith((INPUT, POOLED))


def whole(tap: str) -> str:
    """The tap that gives the tensor itself, where this one gives a copy of it: averaged, turned or squared.

    Example:
        >>> whole("layer3"), whole("layers.3:map"), whole("conv:0:pooled"), whole("layer2:input:rms")
        ('layer3', 'layers.3', 'conv:0:input', 'layer2:input')
    """
    tap = tap.removesuffix(RMS)
    return tap.removesuffix(POOLED) + INPUT if tap.endswith(POOLED) else tap.removesuffix(MAP)


def is_large(tap: str, shape: Sequence[int]) -> bool:
    """Whether a tap gives many channels at many places: what is not kept for a whole training set unless asked.

    Example:
        >>> is_large("fc:input", (64,)), is_large("layer1", (16, 32, 32)), is_large("layer1:rms", (1, 32, 32))
        (False, True, False)
    """
    return len(shape) > 1 and not tap.endswith(RMS)


def root_mean_square(given: Tensor) -> Tensor:
    """Of maps ``[B, 1, H, W]`` over their channels, of tokens ``[B, T, 1]``; float32."""
    squares = given.float().square().mean(dim=2 if given.ndim == 3 else 1, keepdim=True)
    return squares.clamp(min=1e-24).sqrt()


def pooled(module: nn.Module, given: Tensor) -> Tensor:
    """What a module is given, averaged to ``[B, D]``: a convolution takes channels first, all others last."""
    if isinstance(module, nn.Conv2d):
        return given.flatten(2).mean(dim=2)
    return given.flatten(1, -2).mean(dim=1) if given.ndim > 2 else given


def inner(model: nn.Module) -> nn.Module:
    """The module the names refer to: the one inside a DDP or `torch.compile` wrapper.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> inner(nn.DataParallel(layer)) is layer, inner(layer) is layer
        (True, True)
    """
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = getattr(model, "module" if isinstance(model, wrappers) else "_orig_mod")
    return model


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """All of a model in evaluation mode for a while; afterwards each module is in the mode it was in.

    Example:
        >>> layer = nn.Dropout()
        >>> with evaluating(layer):
        ...     print(layer.training)
        False
        >>> layer.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a tensor, tuple, list or mapping, however deep; None if there is none.

    Example:
        >>> first_tensor({"loss": None, "states": (torch.ones(2), torch.zeros(2))})
        tensor([1., 1.])
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


_Circumstance = tuple[str, bool, bool]  # tap, whether the model trains, whether gradients are recorded
_Mark = tuple[Tensor, int, _Circumstance]  # a tensor, and its version when it was read


class Taps:
    """Named tensors of one model, read while it runs.

    A module that runs several times in one forward is read at its last run, unless the tap names one. A
    module that gives a tuple, list or mapping is read at its first tensor. A tensor that a later layer overwrites (an
    in-place ReLU after a batch norm, say) is read as it was when its module gave it.

    Args:
        model: Any module; inside a DDP or `torch.compile` wrapper, names are those of the inner module.
        names: Taps to read; ``""`` is always among the answers.
        owner: What messages call the model, for example ``"student 'resnet18'"``.

    Raises:
        TapNotFound: The model has no such module. All wrong names are listed at once.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> outputs = Taps(model, ["0", "1:input"])(lambda: model(torch.ones(4, 2)))
        >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
        {'0': (4, 3), '1:input': (4, 3), '': (4, 3)}
    """

    def __init__(self, model: nn.Module, names: Iterable[str], *, owner: str = "model") -> None:
        self.model = inner(model)
        self.names = tuple(dict.fromkeys(name for name in names if name))
        self.owner = owner
        self._untouched: set[_Circumstance] = set()  # in these a whole forward left the tensor as it was
        self._check()

    def __call__(self, run: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Run one forward and return what was read on the way.

        Args:
            run: Calls the model, once.

        Returns:
            Tap name -> tensor, with gradient where `run` gives one; ``""`` is what `run` returned.

        Raises:
            InputError: A tapped module did not run, or gave no tensor.
        """
        read: dict[str, Tensor] = {}
        marks: dict[str, _Mark] = {}
        handles = [self._hook(name, read, marks) for name in self.names]
        try:
            output = run()
        finally:
            for handle in handles:
                handle.remove()
        self._compare(marks)
        if missing := [name for name in self.names if name not in read]:
            raise InputError(
                f"{self.owner}: {', '.join(map(repr, missing))} did not run in this forward, so there is "
                "nothing to read. Tap a module that is called so often (a parent of it, or its neighbour). A compiled "
                "model has to run through its taps from its first call on."
            )
        for name in self.names:
            if name.removesuffix(RMS).endswith(MAP):
                read[name] = read[name].permute(0, 3, 1, 2)
            elif name.endswith(POOLED):
                read[name] = pooled(self.model.get_submodule(module_name(name)), read[name])
            if name.endswith(RMS):
                read[name] = root_mean_square(read[name])
        return {**{name: read[name] for name in self.names}, "": output}

    def _hook(self, name: str, read: dict[str, Tensor], marks: dict[str, _Mark]) -> torch.utils.hooks.RemovableHandle:
        run, runs = RUN.search(name.removesuffix(RMS)), itertools.count()
        channels_last = name.removesuffix(RMS).endswith(MAP)
        ranks = {4} if channels_last else {3, 4} if name.endswith(RMS) else set()

        def keep(value: Any) -> None:
            if run is not None and next(runs) != int(run[1]):
                return
            tensor = first_tensor(value)
            if tensor is None or (ranks and tensor.ndim not in ranks):
                found = f"{type(value).__name__} without one" if tensor is None else list(tensor.shape)
                wanted = "a tensor [B, H, W, C]" if channels_last else "maps or tokens" if ranks else "a tensor"
                raise InputError(f"{self.owner}: expected {wanted} at tap {name!r}, found {found}. Tap another module.")
            if torch.compiler.is_compiling() or tensor.is_inference():  # no version to compare
                read[name] = tensor.clone()
                return
            key = name, self.model.training, torch.is_grad_enabled()
            marks[name] = tensor, tensor._version, key
            read[name] = tensor if key in self._untouched else tensor.clone()

        module = self.model.get_submodule(module_name(name))
        if reads_input(name):
            return module.register_forward_pre_hook(lambda module, args, kwargs: keep((args, kwargs)), with_kwargs=True)
        return module.register_forward_hook(lambda module, args, output: keep(output))

    def _compare(self, marks: Mapping[str, _Mark]) -> None:
        """Learn which tensors stayed as they were; refuse one that changed although it never had before."""
        for name, (tensor, version, key) in marks.items():
            if tensor._version == version:
                self._untouched.add(key)
            elif key in self._untouched:
                self._untouched.remove(key)
                raise InputError(
                    f"{self.owner}: the tensor at tap {name!r} was overwritten in this forward, though not "
                    "in an earlier one. Tap a later module, or make the layer after it work out of place."
                )

    def _check(self) -> None:
        known = [name for name, _ in self.model.named_modules() if name]
        wrong = [name for name in self.names if module_name(name) not in ("", *known)]
        if wrong:
            lines = []
            for name in wrong:
                close = close_names(module_name(name), known)
                lines += [f"{self.owner} has no module {module_name(name)!r}.", f"    {close}"]
            raise TapNotFound("\n".join(lines) + "      all of them: tutelage inspect MODEL")


def classifier(model: nn.Module) -> str | None:
    """The name of the layer that gives the logits: linear, or a 1x1 convolution.

    What a model's own `get_classifier` says (timm), else the last such layer it holds.

    Example:
        >>> classifier(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
        '2'
        >>> classifier(nn.ReLU()) is None
        True
    """
    model = inner(model)
    own: Any = getattr(model, "get_classifier", None)
    place = own() if callable(own) else model
    while isinstance(place, (tuple, list)):  # distilled ViTs have two
        place = place[0]
    if not isinstance(place, nn.Module):
        return None
    last = [module for module in place.modules() if _gives_logits(module)]
    if not last:
        return None
    return next((name for name, module in model.named_modules() if module is last[-1]), None)


def _gives_logits(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def head(model: nn.Module, num_classes: int) -> nn.Module | None:
    """The classifier of a model if it maps a vector to logits: what trust on features asks a teacher for.

    Args:
        model: Any module.
        num_classes: Number of logits it has to give.

    Returns:
        The linear layer, shared with the model; None if the classifier is no linear layer of so many rows.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> head(model, 2), head(model, 10)
        (Linear(in_features=4, out_features=2, bias=True), None)
    """
    name = classifier(model)
    if name is None:
        return None
    module = inner(model).get_submodule(name)
    return module if isinstance(module, nn.Linear) and module.out_features == num_classes else None
