"""What one model does to the picture all models share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in a grey picture (ITU-R BT.601)."""


@dataclass(frozen=True)
class Preprocess:
    """Size, channels, normalisation and class order of one model.

    Every model carries one as ``model.preprocess``: teacher and student are handed the same augmented
    picture and each brings it to its own terms. It has no parameters and is not part of the state dict.

    Args:
        mean: Subtracted from each channel; as many numbers as the model has input channels.
        std: Each channel is divided by it.
        size: Height and width the model insists on; None: it takes pictures as they come.
        classes: For each class of the user, the model's column; None: the columns are the user's classes.

    Example:
        >>> import torch
        >>> half = Preprocess(mean=(0.5,), std=(0.25,), classes=(1, 0))
        >>> half(torch.ones(1, 1, 1, 1)).item(), half.arrange(torch.tensor([[3.0, 7.0]]))
        (2.0, tensor([[7., 3.]]))
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, kind in (("mean", float), ("std", float), ("size", int), ("classes", int)):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(map(kind, value)))
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(
                "Preprocess: expected a mean and a positive std for each channel, "
                f"found mean={self.mean} and std={self.std}."
            )

    @classmethod
    def normalising(
        cls,
        channels: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> "Preprocess":
        """A mean and std for any number of channels: their averages where it is not the number given."""
        if len(mean) != channels:
            mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
        return cls(mean, std)

    @classmethod
    def identity(cls, channels: int = 3) -> "Preprocess":
        """Hands the shared picture on as it is."""
        return cls(mean=(0.0,) * channels, std=(1.0,) * channels)

    def __call__(self, inputs: Tensor) -> Tensor:
        """The model's own view of the shared picture.

        Args:
            inputs: Not normalised, float ``[B, C, H, W]`` in [0, 1].

        Returns:
            Resized (bilinear, antialiased), grey or repeated to the model's channels, normalised.

        Raises:
            ValueError: The channels are neither the model's nor convertible to them.
        """
        if self.size is not None and tuple(inputs.shape[-2:]) != self.size:
            wide = inputs.float() if inputs.dtype.itemsize < 4 else inputs  # the CPU resizes no half precision
            wide = F.interpolate(wide, self.size, mode="bilinear", antialias=True, align_corners=False)
            inputs = wide.to(inputs.dtype)
        inputs = self._channels(inputs)
        if not any(self.mean) and set(self.std) == {1.0}:
            return inputs
        shift = tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))
        scale = tuple(1 / std for std in self.std)
        return torch.addcmul(_per_channel(shift, inputs), inputs, _per_channel(scale, inputs))

    def arrange(self, logits: Tensor) -> Tensor:
        """The model's output ``[B, C, ...]`` with its columns in the user's class order."""
        if self.classes is None:
            return logits
        return logits.index_select(1, _constant(self.classes, torch.int64, logits))

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; `from_dict` reads it back."""
        return {
            name: None if (value := getattr(self, name)) is None else list(value)
            for name in ("mean", "std", "size", "classes")
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Preprocess":
        """The inverse of `to_dict`.

        Example:
            >>> grey = Preprocess((0.5,), (0.5,), size=(8, 8))
            >>> Preprocess.from_dict(grey.to_dict()) == grey
            True
        """
        return cls(**stored)

    def _channels(self, inputs: Tensor) -> Tensor:
        found, expected = inputs.shape[1], len(self.mean)
        if found == expected:
            return inputs
        if found == 1:
            return inputs.expand(-1, expected, -1, -1)
        if (found, expected) == (3, 1):
            return (inputs * _per_channel(LUMA, inputs)).sum(dim=1, keepdim=True)
        raise ValueError(
            f"the model takes pictures of {expected} channels, found {found}. "
            "Only grey to colour and colour to grey are done without asking."
        )


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return _constant(values, like.dtype, like).view(1, -1, 1, 1)


def _constant(values: tuple[float, ...] | tuple[int, ...], dtype: torch.dtype, like: Tensor) -> Tensor:
    """A tensor made once per device; while a graph is traced, a constant of that graph instead."""
    if torch.compiler.is_compiling() or type(like) is not Tensor:
        return torch.tensor(values, dtype=dtype, device=like.device)
    return _kept(values, dtype, like.device)


@lru_cache(maxsize=128)
def _kept(values: tuple[float, ...] | tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else it could not take part in a later backward
        return torch.tensor(values, dtype=dtype, device=device)
