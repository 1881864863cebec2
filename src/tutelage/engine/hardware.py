"""What the hardware can do."""

import torch


def computes_bf16(accelerator: str = "auto") -> bool:
    """Whether the hardware that will be used computes bf16 natively."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator in ("auto", "cpu"):
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False
