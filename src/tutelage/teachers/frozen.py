"""Frozen: a trained network that answers live."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tutelage.ledger import Batch, Outputs, Spec
from tutelage.taps import Taps, head

from .base import Teacher


class Frozen(Teacher):
    """A trained network that answers every batch with one forward.

    Args:
        network: Any module. It is put into eval mode and its parameters stop requiring gradients.

    Example:
        >>> teacher = Frozen(nn.Linear(4, 3))
        >>> list(teacher.parameters()), teacher.state_dict(), teacher.train().network.training
        ([], OrderedDict(), False)
    """

    network: nn.Module

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._head: nn.Module | None = None

    @property
    def head(self) -> nn.Module | None:
        """The network's classifier with its class order; None if none could be found."""
        return self.__dict__.get("found_head")

    def bind(self, spec: Spec, name: str) -> None:
        """Tap the network."""
        self._taps = Taps(self.network, spec.taps[name], owner=f"teacher {name!r}")
        self._call = spec.call
        found = head(self.network, len(spec.classes)) if spec.classes else None
        self.__dict__["found_head"] = None if found is None else _Arranged(found, self.network)

    @torch.no_grad()
    def forward(self, batch: Batch, peers: Mapping[str, Outputs]) -> Outputs:
        """One forward of the network."""
        return self._taps(lambda: self._call(self.network, batch))


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
