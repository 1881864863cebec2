"""Torchjd: the weightings of that library, by name."""

import inspect
from typing import Any

from torch import Tensor

from tutelage.errors import MissingExtra, RecipeError, UnknownName, close_names

from .base import Solver


class Torchjd(Solver):
    """Any weighting of torchjd that looks at inner products alone, such as ``Krum``.

    It is called as that library has it, on inner products in float64. What a weighting that remembers keeps to itself
    is not saved.

    Args:
        name: Of the class, without ``Weighting``: ``"UPGrad"``, ``"Krum"``, ``"PCD"`` …
        options: By keyword, for its constructor.

    Raises:
        MissingExtra: torchjd, or what this weighting needs beside it, is not installed.
        UnknownName: torchjd has no such weighting.
        RecipeError: It does not take these options.

    Reference:
        https://torchjd.org; Quinton, Rey 2024, arXiv:2406.16232.
    """

    signed = True

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        try:
            from torchjd import aggregation
        except ImportError as error:
            raise MissingExtra(f"{name} of torchjd needs it: pip install 'tutelage[gradient]'") from error
        known = {
            key.removesuffix("Weighting"): part
            for key, part in vars(aggregation).items()
            if key.endswith("Weighting") and key != "Weighting" and "gramian" in _asks(part)
        }
        if name not in known:
            raise UnknownName(f"Torchjd: there is no weighting of inner products {name!r}; {close_names(name, known)}.")
        self.name = name
        try:
            self.weighting = known[name](**options)
        except ImportError as error:
            raise MissingExtra(
                f"{name} of torchjd needs more than pip install 'tutelage[gradient]': {error}"
            ) from error
        except TypeError as error:
            raise RecipeError(f"Torchjd: {name} does not take these options: {error}.") from error

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """What torchjd answers, ``[K]``."""
        weights: Tensor = self.weighting(gramian.double())
        return weights


def _asks(part: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(part.forward).parameters)
