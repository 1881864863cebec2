"""Read named tensors of any model during one forward.

A tap is a string: ``"layer3"`` is the output of that submodule, ``"fc:input"`` the first tensor
given to it, ``""`` the output of the call itself. The model stays what it was: hooks live only
as long as the forward, so it can be copied, pickled, exported, and tapped by several at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError, TapNotFound, close_names

INPUT = ":input"
"""What a tap ends in when it reads what a module was given instead of what it gave."""


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


class Taps:
    """Named tensors of one model, read while it runs.

    A module that runs several times in one forward is read at its last run. A module that gives a
    tuple, list or mapping is read at its first tensor. A tensor that a later layer overwrites (an
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
        # (tap, training, grad mode) of tensors that a whole forward left untouched: these need no copy.
        self._untouched: set[tuple[str, bool, bool]] = set()
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
        marks: dict[str, tuple[Tensor, int]] = {}
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
                "nothing to read. Tap a module that is called (a parent of it, or its neighbour)."
            )
        return {**{name: read[name] for name in self.names}, "": output}

    def _hook(
        self, name: str, read: dict[str, Tensor], marks: dict[str, tuple[Tensor, int]]
    ) -> torch.utils.hooks.RemovableHandle:
        def keep(value: Any) -> None:
            tensor = first_tensor(value)
            if tensor is None:
                raise InputError(
                    f"{self.owner}: expected a tensor at tap {name!r}, found {type(value).__name__} "
                    "without one. Tap another module."
                )
            if tensor.is_inference():  # has no version to compare
                read[name] = tensor.clone()
                return
            marks[name] = (tensor, tensor._version)
            read[name] = tensor if self._key(name) in self._untouched else tensor.clone()

        module = self.model.get_submodule(name.removesuffix(INPUT))
        if name.endswith(INPUT):
            return module.register_forward_pre_hook(
                lambda module, args, kwargs: keep((args, kwargs)), with_kwargs=True
            )
        return module.register_forward_hook(lambda module, args, output: keep(output))

    def _compare(self, marks: Mapping[str, tuple[Tensor, int]]) -> None:
        """Learn which tensors stayed as they were; refuse one that changed although it never had before."""
        for name, (tensor, version) in marks.items():
            key = self._key(name)
            if tensor._version == version:
                self._untouched.add(key)
            elif key in self._untouched:
                self._untouched.remove(key)
                raise InputError(
                    f"{self.owner}: the tensor at tap {name!r} was overwritten in this forward, though not "
                    "in an earlier one. Tap a later module, or make the layer after it work out of place."
                )

    def _key(self, name: str) -> tuple[str, bool, bool]:
        return name, self.model.training, torch.is_grad_enabled()

    def _check(self) -> None:
        known = [name for name, _ in self.model.named_modules() if name]
        wrong = [name for name in self.names if name.removesuffix(INPUT) not in ("", *known)]
        if wrong:
            lines = []
            for name in wrong:
                close = close_names(name.removesuffix(INPUT), known)
                lines += [f"{self.owner} has no module {name.removesuffix(INPUT)!r}.", f"    {close}"]
            place = self.owner.partition("'")[2].partition("'")[0] or "MODEL"
            raise TapNotFound("\n".join(lines) + f"      all of them: tutelage inspect {place}")
