"""Paraphrased: an autoencoder of the teacher's features is trained first; the student then learns its code."""

from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from tutelage.distiller import STUDENT
from tutelage.errors import RecipeError
from tutelage.losses import FT, mse
from tutelage.path import Path
from tutelage.taps import inner
from tutelage.weighting import Fixed

from .base import Cast, Stage

LR = 0.1
"""Of the run's learning rate: layers without normalisation do not bear all of it."""


def paraphrased(cast: Cast, *, epochs: int | None = None) -> Iterator[Stage]:
    """Every paraphraser of an `FT` path is trained on its teacher's features; then the student learns from all paths.

    While a paraphraser learns, the teacher goes on with what it decodes: what is validated is the teacher's own
    accuracy as far as it survives. Its stage is called ``paraphraser-PATH-TEACHER``.

    Args:
        cast: The models.
        epochs: Of each paraphraser; None: as many as the student's.

    Raises:
        RecipeError: No path has the loss `ft`.

    Reference:
        Kim, Park & Kwak 2018, "Paraphrasing Complex Network", arXiv:1802.04977. Deviation: the paraphraser is trained
        with the mean squared difference and a tenth of the learning rate, as in RepDistiller, where the authors' code
        takes the absolute one and all of it.
    """
    pupil = cast.distiller(cast.model(STUDENT), cast.teachers())
    waiting = []
    for name, path in pupil.paths.items():
        assert isinstance(path, Path)
        losses = [(teacher, loss) for teacher, loss in zip(path.hears, path.losses, strict=False)]
        waiting += [(name, path, teacher, loss) for teacher, loss in losses if isinstance(loss, FT)]
    if not waiting:
        raise RecipeError(
            "paraphrased: expected a path with the loss ft, found none. Add one, or leave the scheme out."
        )
    for name, path, teacher, loss in waiting:
        tap = path.teacher_tap(teacher)
        assert isinstance(tap, str)
        network = Paraphrased(cast.networks[teacher], tap, loss.paraphraser.requires_grad_())
        learns = cast.distiller(
            network,
            {teacher: cast.teachers()[teacher]},
            paths={"reconstruction": Path(mse, student="paraphraser.decoder", teacher=tap)},
            weighting=Fixed(base=0.0),
        )
        yield Stage(f"paraphraser-{name}-{teacher}", {"paraphraser": learns}, epochs=epochs, lr=LR)
        loss.freeze()
    yield Stage(STUDENT, {STUDENT: pupil})


class Paraphrased(nn.Module):
    """A frozen network that goes on with what a paraphraser makes of its features at one tap.

    The network is no submodule: it is not trained and in no checkpoint.

    Args:
        network: A trained network.
        tap: The name of one of its modules.
        paraphraser: What is trained.
    """

    def __init__(self, network: nn.Module, tap: str, paraphraser: nn.Module) -> None:
        super().__init__()
        self.paraphraser = paraphraser
        self.__dict__["network"] = network.eval().requires_grad_(False)
        self.__dict__["preprocess"] = getattr(network, "preprocess", None)
        self.tap = tap

    def forward(self, inputs: Tensor) -> Tensor:
        """The network's logits, for what came back from the code."""
        network: nn.Module = self.__dict__["network"]
        module = inner(network).get_submodule(self.tap)
        handle = module.register_forward_hook(lambda module, given, said: self._again(said))
        try:
            logits: Tensor = network(inputs)
        finally:
            handle.remove()
        return logits

    def _again(self, said: Tensor) -> Tensor:
        decoded: Tensor = self.paraphraser.decoder(self.paraphraser(said))  # type: ignore[operator]
        return decoded

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.__dict__["network"]._apply(fn, recurse)
        moved: Any = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        assert isinstance(moved, torch.nn.Module)
        return self
