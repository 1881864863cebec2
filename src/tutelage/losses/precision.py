"""In which number type a loss is computed: never below float32."""

from torch import Tensor


def full(x: Tensor) -> Tensor:
    """The tensor in float32, or float64 if it came so; half precision is widened.

    Example:
        >>> import torch
        >>> full(torch.ones(1, dtype=torch.bfloat16)).dtype, full(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return x if x.dtype.itemsize >= 4 and x.is_floating_point() else x.float()


def widest(x: Tensor) -> Tensor:
    """The tensor in float64; in float32 on devices without it.

    Example:
        >>> import torch
        >>> widest(torch.ones(1)).dtype
        torch.float64
    """
    return x.float() if x.device.type == "mps" else x.double()
