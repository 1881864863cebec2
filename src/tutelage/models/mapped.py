"""Weights that stay in a file: a teacher may be larger than the memory that is free."""

import pathlib
import tempfile

import torch
from torch import nn


@torch.no_grad()
def map_weights(model: nn.Module, folder: pathlib.Path | str) -> nn.Module:
    """Move the weights of a model into a file and read them from there, page by page, when they are used.

    The system may drop such pages whenever memory is short and read them again: several teachers that do not fit
    together take turns. The file has no name, and is gone when the process ends, however it ends.

    Args:
        model: Any module, on the CPU. It answers as before; its weights can no longer be changed in place.
        folder: Where the file lies: on a disk, not in memory.

    Returns:
        The model itself.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> before = model.weight.clone()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.equal(map_weights(model, folder).weight, before), model.weight.requires_grad
        (True, True)
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: x for name, x in [*model.named_parameters(), *model.named_buffers()] if x.numel()}
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".safetensors") as file:
        save_file({name: x.contiguous() for name, x in tensors.items()}, file.name)
        with safe_open(file.name, "pt") as mapped:
            for name, x in tensors.items():
                x.data = mapped.get_tensor(name)
    return model
