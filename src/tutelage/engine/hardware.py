"""What the hardware can do."""

from collections.abc import Callable
from typing import Literal

import torch

from tutelage.errors import RecipeError, close_names

_ACCELERATORS: dict[str, Callable[[], bool]] = {
    "auto": lambda: True,
    "cpu": lambda: True,
    "gpu": lambda: torch.cuda.is_available() or torch.backends.mps.is_available(),
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}


def check_accelerator(name: str) -> None:
    """Refuse an accelerator that this machine does not have.

    Raises:
        RecipeError: There is no such accelerator, or none here.

    Example:
        >>> check_accelerator("gpus")
        Traceback (most recent call last):
        tutelage.errors.RecipeError: train.accelerator: there is no accelerator 'gpus'; close: gpu.
    """
    if name not in _ACCELERATORS:
        raise RecipeError(
            f"train.accelerator: there is no accelerator {name!r}; {close_names(name, _ACCELERATORS, most=1)}."
        )
    if not _ACCELERATORS[name]():
        raise RecipeError(
            f"train.accelerator: expected {name!r} on this machine, found none that PyTorch can use. Take auto or cpu."
        )


def computes_bf16(accelerator: str = "auto") -> bool:
    """Whether bf16 pays on the hardware that will be used.

    On a CPU that asks for matrix tiles (AMX): with AVX-512's bf16 instructions alone small convolutional networks train
    and answer more slowly than in float32 (see the benchmarks).
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator in ("auto", "cpu"):
        return bool(torch.cpu._is_amx_tile_supported())
    return False


def decided(precision: Literal["auto", "float32", "bf16"], accelerator: str) -> Literal["float32", "bf16"]:
    """What is computed in: ``auto`` decided for the hardware that will be used."""
    if precision == "auto":
        return "bf16" if computes_bf16(accelerator) else "float32"
    return precision
