"""Models that answer with a record instead of a tensor."""

from typing import Any

from torch import Tensor, nn


class Logits(nn.Module):
    """Answers with the logits of a model that gives them as one field among others.

    Args:
        model: Its output is a record with a field of logits, as that of image classifiers of `transformers` is.
        field: The field's name.
    """

    def __init__(self, model: nn.Module, field: str = "logits") -> None:
        super().__init__()
        self.model = model
        self.field = field

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, C]`` (of each pixel, ``[B, C, H, W]``) of normalised pictures ``[B, C_in, H, W]``."""
        output: Any = self.model(inputs)
        logits: Tensor = output[self.field]
        return logits


def plain(model: nn.Module) -> nn.Module:
    """The library's own model, whose names are those in its weight files."""
    return model.model if isinstance(model, Logits) else model
