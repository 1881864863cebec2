"""Frozen: a trained network that answers live."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from tutelage.ledger import Batch, Outputs, Spec
from tutelage.taps import Taps, evaluating, head

from .base import Teacher


class Frozen(Teacher):
    """A trained network that answers every batch with one forward.

    Args:
        network: Any module. It is put into eval mode and its parameters stop requiring gradients.
        compile: Run it through `torch.compile`: slow at first, faster afterwards. It is compiled for the largest batch
            it meets, and smaller ones are filled up.
        offload: Leave the network where it is, and bring it to the batch's device for its own forward alone: of several
            teachers a GPU then holds one at a time.

    Example:
        >>> teacher = Frozen(nn.Linear(4, 3))
        >>> list(teacher.parameters()), teacher.state_dict(), teacher.train().network.training
        ([], OrderedDict(), False)
    """

    network: nn.Module

    def __init__(self, network: nn.Module, *, compile: bool = False, offload: bool = False) -> None:
        super().__init__(network)
        self.offload = offload
        # In the instance's dict, as the network itself: what is frozen is no submodule.
        self.__dict__["runs"] = torch.compile(network, dynamic=False) if compile else network
        self._size = 0 if compile else None

    def __getstate__(self) -> dict[str, Any]:
        """Compiled code does not travel between processes; it is compiled again there."""
        return {**self.__dict__, "runs": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.__dict__["runs"] = self.network if self._size is None else torch.compile(self.network, dynamic=False)

    @property
    def head(self) -> nn.Module | None:
        """The network's classifier with its class order, or what the task has in its place; None if there is none."""
        return self.__dict__.get("found_head")

    def bind(self, spec: Spec, name: str) -> None:
        """Tap the network."""
        self._taps = Taps(self.network, spec.taps[name], owner=f"teacher {name!r}")
        self._call = spec.call
        found = None if spec.head is None else spec.head(self.network)
        found = _classifier(self.network, spec) if found is None else found
        if found is not None and self.offload:  # asked for between forwards, so it stays with the batches
            found = copy.deepcopy(found)
        self.__dict__["found_head"] = found

    @torch.no_grad()
    def forward(self, batch: Batch, peers: Mapping[str, Outputs]) -> Outputs:
        """One forward of the network, in eval mode, whoever has put it into another."""
        here = visiting(self.network, batch.inputs.device) if self.offload else contextlib.nullcontext()
        with evaluating(self.network), here:
            return self._answer(batch)

    def _answer(self, batch: Batch) -> Outputs:
        if self._size is None:
            return self._taps(lambda: self._call(self.network, batch))
        self._size = max(self._size, len(batch))
        whole, network = filled(batch, self._size), self.__dict__["runs"]
        return {tap: said[: len(batch)] for tap, said in self._taps(lambda: self._call(network, whole)).items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if not self.offload:
            return super()._apply(fn, recurse)
        if self.head is not None:
            self.head._apply(fn, recurse)  # type: ignore[no-untyped-call]
        nn.Module._apply(self, fn, recurse)  # type: ignore[no-untyped-call]
        return self


@contextlib.contextmanager
def visiting(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Have a network on a device for a while; afterwards its weights are what and where they were."""
    home = [(x, x.data) for x in (*network.parameters(), *network.buffers())]
    try:
        for x, here in home:
            x.data = here.to(device, non_blocking=True)
        yield
    finally:
        for x, here in home:
            x.data = here


def filled(batch: Batch, size: int) -> Batch:
    """The batch with its last input repeated until there are so many.

    Example:
        >>> task = __import__("tutelage").tasks.Classification(2)
        >>> filled(task.unpack((torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))), 4).inputs.flatten()
        tensor([1., 2., 2., 2.])
    """
    lacks = size - len(batch)
    if lacks == 0:
        return batch
    last = batch.inputs.dim() == 4 and batch.inputs.is_contiguous(memory_format=torch.channels_last)
    inputs = torch.cat([batch.inputs, batch.inputs[-1:].expand(lacks, *batch.inputs.shape[1:])])
    # Compiled code is made for one layout.
    layout = torch.channels_last if last else torch.contiguous_format
    return dataclasses.replace(batch, inputs=inputs.contiguous(memory_format=layout))


def _classifier(network: nn.Module, spec: Spec) -> nn.Module | None:
    found = head(network, len(spec.classes)) if spec.classes else None
    return None if found is None else _Arranged(found, network)


class _Arranged(nn.Module):
    """A classifier whose logits come in the user's class order."""

    def __init__(self, classifier: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.__dict__["preprocess"] = getattr(network, "preprocess", None)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        preprocess = self.__dict__["preprocess"]
        return logits if preprocess is None else preprocess.arrange(logits)
