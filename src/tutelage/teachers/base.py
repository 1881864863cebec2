"""Teacher: answers a batch with named tensors, and never appears in a checkpoint."""

from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor, nn

from tutelage.ledger import Batch, Outputs, Spec


class Teacher(nn.Module):
    """Answers a batch with ``{tap: tensor}``, without gradient.

    A network given to a teacher is kept out of `parameters()`, `state_dict()` and data-parallel wrappers, here and
    once: it moves with `.to()`, stays in eval mode, and is never saved.

    Args:
        network: The network behind the answers, if there is one.
    """

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        # In the instance's dict, not among the registered modules.
        self.__dict__["network"] = None if network is None else network.eval().requires_grad_(False)

    @property
    def head(self) -> nn.Module | None:
        """What losses may hand features on to: the classifier, from the vector before it to logits in the user's class
        order, or what `Task.head` finds; None if there is none."""
        return None

    def bind(self, spec: Spec, name: str) -> None:
        """Learn which taps will be asked for under which name; refuse what cannot be served.

        Raises:
            TapNotFound: There is no such module.
        """

    def forward(self, batch: Batch, peers: Mapping[str, Outputs]) -> Outputs:
        """Answer a batch.

        Args:
            batch: The batch.
            peers: What the pupils of this step said, by name.

        Returns:
            Each tap of `bind`, and ``""`` for the output.
        """
        raise NotImplementedError(f"{type(self).__name__} does not answer batches.")

    def train(self, mode: bool = True) -> Self:
        """Teachers stay in eval mode."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        network: Any = self.__dict__["network"]
        if network is not None:
            network._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
