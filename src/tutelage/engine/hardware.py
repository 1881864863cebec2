"""What the hardware can do."""

import torch


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
