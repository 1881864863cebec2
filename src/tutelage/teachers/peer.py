"""Peer: another pupil of the same step, heard as a teacher."""

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from tutelage.ledger import Batch, Outputs, Spec
from tutelage.taps import Taps

from .base import Teacher


class Peer(Teacher):
    """A network that is trained at the same time; what it says is heard without gradient.

    What it said in this step, as a pupil, is heard again. Taps that its own distiller did not read, and batches it did
    not attend to, cost a forward of its own.

    Args:
        network: The network, which stays as it is: it is in training elsewhere.
        pupil: Its name among the pupils of the stage.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Spec
        >>> peer = Peer(nn.Linear(4, 3), "big")
        >>> peer.bind(Spec(call=lambda model, batch: model(batch), taps={"big": ()}), "big")
        >>> peer(None, {"big": {"": torch.ones(2, 3)}})[""].sum()
        tensor(6.)
    """

    def __init__(self, network: nn.Module, pupil: str) -> None:
        super().__init__()
        # In the instance's dict, and not frozen: it belongs to another distiller.
        self.__dict__["peer"] = network
        self.pupil = pupil

    def bind(self, spec: Spec, name: str) -> None:
        """Tap the network."""
        self._names = spec.taps[name]
        self._taps = Taps(self.__dict__["peer"], self._names, owner=f"teacher {name!r}")
        self._call = spec.call

    @torch.no_grad()
    def forward(self, batch: Batch, peers: Mapping[str, Outputs]) -> Outputs:
        """What the pupil said in this step, or says now."""
        said = peers.get(self.pupil, {})
        names = ("", *self._names)
        if all(name in said for name in names):
            return {name: said[name].detach() for name in names}
        network: nn.Module = self.__dict__["peer"]
        return self._taps(lambda: self._call(network, batch))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        nn.Module._apply(self, fn, recurse)  # type: ignore[no-untyped-call]
        return self  # the network moves with its own distiller
