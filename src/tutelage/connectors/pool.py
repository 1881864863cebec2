"""Pool: one vector per sample."""

from typing import Literal

from torch import Tensor, nn


class Pool(nn.Module):
    """Maps and tokens to a vector; vectors pass as they are. Nothing is learned.

    Args:
        tokens: What stands for a sample's tokens: their ``"mean"``, or the ``"first"`` (the class token).

    Raises:
        ValueError: `tokens` is neither.

    Example:
        >>> import torch
        >>> Pool()(torch.ones(2, 16, 4, 4)).shape, Pool(tokens="first")(torch.ones(2, 5, 16)).shape
        (torch.Size([2, 16]), torch.Size([2, 16]))
    """

    def __init__(self, *, tokens: Literal["mean", "first"] = "mean") -> None:
        super().__init__()
        if tokens not in ("mean", "first"):
            raise ValueError(f"Pool: expected tokens='mean' or 'first', found {tokens!r}.")
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]``, ``[B, T, D]`` or ``[B, D]`` -> ``[B, D]``."""
        if x.dim() == 3:
            return x[:, 0] if self.tokens == "first" else x.mean(dim=1)
        return x.flatten(2).mean(dim=2) if x.dim() > 3 else x
