"""A live module, given what every model carries: how to prepare a picture, and how to build it again."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.taps import evaluating, inner

from .logits import Logits, plain
from .preprocess import Preprocess


def carry(model: nn.Module, preprocess: Preprocess, origin: Mapping[str, Any]) -> nn.Module:
    """Attach `preprocess` and `origin` as plain attributes."""
    model.__dict__["preprocess"] = preprocess
    model.__dict__["origin"] = dict(origin)
    return model


def adopt(model: nn.Module, *, in_channels: int = 3) -> nn.Module:
    """Give a live module a `preprocess` and an `origin` where it lacks them.

    A model of `timm` gets the normalisation timm states for it; any other is handed pictures as they come.

    Args:
        model: Any module.
        in_channels: Channels it takes, where its first convolution does not tell.

    Returns:
        The module itself, without the DataParallel, DDP or `torch.compile` around it; one of `transformers`, or of
        torchvision for segmentation, inside `Logits`.

    Raises:
        ModelError: It has a `preprocess` of its own that is none of ours.
    """
    outer, model = model, inner(model)
    preprocess, origin = (getattr(outer, name, getattr(model, name, None)) for name in ("preprocess", "origin"))
    if preprocess is not None and not (callable(preprocess) and hasattr(preprocess, "arrange")):
        raise ModelError(
            f"expected {type(model).__name__}.preprocess to be a tutelage.models.Preprocess, "
            f"found {type(preprocess).__name__}. Rename it, or put the model inside another module."
        )
    config = _configuration(model)
    if config is not None:
        model = Logits(model)
    elif type(model).__module__.startswith("torchvision.models.segmentation."):
        model = Logits(model, field="out")
    if not isinstance(origin, Mapping):
        origin = _origin(model, config)
    return carry(model, preprocess or _stated(model, in_channels), origin)


def copied(model: nn.Module, *, shared: bool = False) -> nn.Module:
    """A copy of a live module, whose modes, attributes and need of gradients are its own.

    Args:
        model: Any module that can be copied.
        shared: Let both have the same weights in memory: for a copy whose weights are never changed in place.
    """
    # Such as weight_norm leaves behind, and computes anew in every forward: torch copies none.
    made = [x for part in model.modules() for x in vars(part).values() if isinstance(x, Tensor) and not x.is_leaf]
    kept = [*model.parameters(), *model.buffers()] if shared else []
    return copy.deepcopy(model, {id(x): x.detach() for x in made} | {id(x): copy.copy(x) for x in kept})


@torch.no_grad()
def shown(model: nn.Module, pictures: Tensor) -> Any:
    """What a model that carries `preprocess` answers in evaluation mode; its modules stay in the modes they are in."""
    with evaluating(model):
        return model(model.__dict__["preprocess"](pictures))


def _stated(model: nn.Module, in_channels: int) -> Preprocess:
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), in_channels)
    stated = getattr(model, "pretrained_cfg", None)
    if not isinstance(stated, Mapping) or not {"mean", "std"} <= set(stated):
        return Preprocess.identity(first)
    return Preprocess.normalising(first, tuple(stated["mean"]), tuple(stated["std"]))


def _origin(model: nn.Module, config: Any) -> dict[str, Any]:
    if config is not None:
        from .sources.hf import settled

        arguments = {**settled(config), "architectures": [type(plain(model)).__name__]}
        return {"library": "hf", "name": config.model_type, "arguments": arguments, "weights": None}
    kind = type(plain(model))
    return {
        "library": "module",
        "name": f"{kind.__module__}:{kind.__qualname__}",
        "arguments": {},
        "weights": None,
    }


def _configuration(model: nn.Module) -> Any:
    """The configuration of a live model of `transformers` that answers with logits, or None."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(model).__mro__}
    ours = "transformers.modeling_utils.PreTrainedModel" in kinds
    known = type(model).__name__.endswith(("ForImageClassification", "ForSemanticSegmentation"))
    return model.config if ours and known else None
