"""Coding: what a teacher says at one tap, as columns of a shard and back.

Logits ``[C]`` are kept as their distance to the largest (float16, exact where it matters) and the largest itself
(float32). With `top_k`, only the k largest and their classes are kept, and the log-sum-exp of all others: their
probability mass is then spread evenly over them. Anything else is kept as float16, or as float32 where asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .shard import INDEX, SEAL, Array, Column, Columns, in_order

OUTPUT = "output"


@dataclass(frozen=True)
class Coding:
    """How one tap is kept.

    Args:
        tap: The tap; ``""`` is the teacher's output.
        shape: Of one sample there.
        dtype: ``"float16"`` or ``"float32"``.
        top_k: How many logits are kept; None for all.

    Example:
        >>> logits = torch.tensor([[4.0, 1.0, 0.0, -1.0]])
        >>> kept = Coding("", (4,), top_k=2)
        >>> kept.decode(kept.encode(logits)).softmax(1).round(decimals=3)
        tensor([[0.9300, 0.0460, 0.0120, 0.0120]])
    """

    tap: str
    shape: tuple[int, ...]
    dtype: str = "float16"
    top_k: int | None = None

    @property
    def _name(self) -> str:
        return f"tap:{self.tap}" if self.tap else OUTPUT

    @property
    def _logits(self) -> bool:
        return not self.tap and len(self.shape) == 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns this takes."""
        if not self._logits:
            return (Column(self._name, self.dtype, self.shape),)
        largest = Column(f"{OUTPUT}:max", "float32", ())
        if self.top_k is None:
            return largest, Column(OUTPUT, self.dtype, self.shape)
        kept = Column(OUTPUT, self.dtype, (self.top_k,))
        classes = Column(f"{OUTPUT}:classes", str(_class_dtype(self.shape[0])).removeprefix("torch."), (self.top_k,))
        return largest, Column(f"{OUTPUT}:rest", "float32", ()), kept, classes

    def encode(self, said: Tensor) -> dict[str, Array]:
        """The columns of ``[n, *shape]``; numbers that are not finite stay so.

        Raises:
            OverflowError: A finite number is beyond float16; `args` holds its row and itself.
        """
        said = said.detach().float().cpu()
        if not self._logits:
            return {self._name: self._narrow(said)}
        largest = said.amax(dim=1).nan_to_num(0.0, 0.0, 0.0)
        below = said - largest[:, None]
        found = {f"{OUTPUT}:max": largest.numpy()}
        if self.top_k is None:
            return found | {OUTPUT: self._narrow(below)}
        kept, classes = below.topk(self.top_k, dim=1)
        rest = below.scatter(1, classes, -torch.inf).logsumexp(dim=1)
        found |= {
            f"{OUTPUT}:rest": rest.numpy(),
            f"{OUTPUT}:classes": classes.to(_class_dtype(self.shape[0])).numpy(),
        }
        return found | {OUTPUT: self._narrow(kept)}

    def decode(self, columns: Mapping[str, Array]) -> Tensor:
        """The dense tensor ``[n, *shape]``, float32."""
        kept: Tensor = torch.from_numpy(columns[self._name]).float()
        if not self._logits:
            return kept
        largest = torch.from_numpy(columns[f"{OUTPUT}:max"])[:, None]
        if self.top_k is None:
            return kept + largest
        missing = self.shape[0] - self.top_k
        rest = torch.from_numpy(columns[f"{OUTPUT}:rest"])[:, None] - np.log(missing)
        classes = torch.from_numpy(columns[f"{OUTPUT}:classes"]).long()
        spread: Tensor = rest.repeat(1, self.shape[0])
        return spread.scatter_(1, classes, kept).add_(largest)

    def _narrow(self, values: Tensor) -> Array:
        if self.dtype == "float32":
            return values.numpy()
        narrow = values.half()
        beyond = (narrow.isinf() & values.isfinite()).flatten(1).any(dim=1)
        if beyond.any():
            row = int(beyond.nonzero()[0])
            raise OverflowError(row, float(values[row].abs().max()))
        return narrow.numpy()

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; `from_dict` reads it back."""
        return {"tap": self.tap, "shape": list(self.shape), "dtype": self.dtype, "top_k": self.top_k}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Coding":
        """The inverse of `to_dict`."""
        return cls(stored["tap"], tuple(stored["shape"]), stored["dtype"], stored["top_k"])


def _class_dtype(classes: int) -> torch.dtype:
    return torch.int16 if classes <= 2**15 else torch.int32


def columns_of(codings: Sequence[Coding]) -> tuple[Column, ...]:
    """All columns of a shard with these taps."""
    own = (Column(INDEX, "int64", ()), Column(SEAL, "int64", ()))
    return in_order([*own, *(column for coding in codings for column in coding.columns)])


def encode(codings: Sequence[Coding], outputs: Mapping[str, Tensor]) -> Columns:
    """The columns of what one teacher said, without index and seal."""
    return {name: array for coding in codings for name, array in coding.encode(outputs[coding.tap]).items()}
