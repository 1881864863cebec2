"""A model together with its preprocessing, as one traced graph."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tutelage.errors import InputError, ModelError

Finish = Callable[[Tensor, Tensor], Tensor]
"""A model's output and the pictures -> the form the task wants."""


class Standalone(nn.Module):
    """From the shared picture to logits in the user's class order, with nothing left to do outside.

    Args:
        model: Copied, and put on the CPU, in float32 and in eval mode. Its ``preprocess``, if it has one,
            becomes part of the graph.
        finish: The last step, `Task.finish`.

    Example:
        >>> import torch
        >>> Standalone(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)))(torch.rand(2, 3, 2, 2)).shape
        torch.Size([2, 5])
    """

    def __init__(self, model: nn.Module, finish: Finish | None = None) -> None:
        super().__init__()
        self.finish = finish
        self.model = copy.deepcopy(model).cpu().float().eval()
        self.preprocess = getattr(model, "preprocess", None)
        self.training = False

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``[B, C, ...]`` of pictures ``[B, C, H, W]`` in [0, 1]."""
        output: Tensor = self.model(image if self.preprocess is None else self.preprocess(image))
        output = output if self.preprocess is None else self.preprocess.arrange(output)
        return output if self.finish is None else self.finish(output, image)

    @torch.no_grad()
    def trace(self, pictures: Tensor, *, any_size: bool = False) -> ExportedProgram:
        """The graph for any number of pictures of this size.

        Args:
            pictures: At least one, ``[B, C, H, W]``.
            any_size: For pictures of any size, too.

        Returns:
            The program, without the stack traces that would carry file names of this machine.

        Raises:
            ModelError: The model does not give one tensor, branches on the values of a picture, or is fixed
                to one number of pictures.
        """
        name = type(self.model).__name__
        pair = pictures[[0, -1]]  # two: a graph traced with one picture would be fixed to one
        try:
            output = self(pair)
            program = torch.export.export(self, (pair,), dynamic_shapes=(free(any_size),), strict=False)
        except Exception as error:  # whatever the model's own code and the tracer raise
            raise ModelError(f"{name} cannot be traced for any number of pictures: {_brief(error)}") from error
        if not isinstance(output, Tensor):
            raise ModelError(f"expected one tensor from {name}, found {type(output).__name__}. Export its logits.")
        for module in program.graph_module.modules():
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    node.meta.pop("stack_trace", None)
        return program


def free(any_size: bool) -> dict[int, Dim]:
    """Dimensions of pictures ``[B, C, H, W]`` that a graph leaves open."""
    sides = {2: Dim("height", min=8), 3: Dim("width", min=8)} if any_size else {}
    return {0: Dim("batch", min=1), **sides}


def checked_pictures(pictures: Tensor, input_shape: tuple[int, int, int]) -> Tensor:
    """The sample pictures on the CPU, or an error that names what is wrong with them.

    Raises:
        InputError: They are not float ``[n, C, H, W]`` in [0, 1] of the given shape, or there are none.
    """
    expected = f"sample_inputs: expected float pictures [n, {', '.join(map(str, input_shape))}] in 0..1"
    if pictures.ndim != 4 or tuple(pictures.shape[1:]) != tuple(input_shape) or len(pictures) == 0:
        raise InputError(f"{expected}, found shape {tuple(pictures.shape)}.")
    if not pictures.is_floating_point():
        raise InputError(f"{expected}, found {pictures.dtype}. Divide 8-bit pictures by 255.")
    if not (pictures.min() >= 0 and pictures.max() <= 1):
        low, high = pictures.min().item(), pictures.max().item()
        raise InputError(f"{expected}, found {low:.3g}..{high:.3g}. Normalisation is part of the exported graph.")
    return pictures.detach().cpu().float()


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
