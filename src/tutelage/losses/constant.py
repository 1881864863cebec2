"""A part of the teacher that the student's features go on through."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call


def through(head: nn.Module, features: Any, *, dtype: torch.dtype) -> Any:
    """What a module makes of features, its weights taken for constants: gradient flows to the features alone.

    Args:
        head: The module. It is used and not trained.
        features: What it is given.
        dtype: The precision it computes in, autocast or not.

    Example:
        >>> head, feature = nn.Linear(1, 1), torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
        >>> through(head, feature, dtype=feature.dtype).sum().backward()
        >>> head.weight.grad is None, bool(feature.grad == head.weight)
        (True, True)
    """
    state = {**dict(head.named_parameters()), **dict(head.named_buffers())}
    fixed = {name: x.detach().to(dtype) if x.is_floating_point() else x for name, x in state.items()}
    device = next((x.device.type for x in state.values()), "cpu")
    with torch.autocast(device, enabled=False):
        return functional_call(head, fixed, (features,))
