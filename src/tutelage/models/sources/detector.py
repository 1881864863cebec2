"""``detector/FAMILY-BACKBONE``: detectors of `torchvision` on a backbone of `timm`."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.errors import InputError, MissingExtra, ModelError, UnknownName, close_names
from tutelage.models.preprocess import Preprocess

from .base import Offer, Wish, refuse_fetching

FAMILIES = ("fcos", "retinanet", "fasterrcnn")


def names() -> list[str]:
    """Every family on every backbone of timm."""
    if importlib.util.find_spec("timm") is None:
        return []
    import timm

    return [f"{family}-{backbone}" for family in FAMILIES for backbone in timm.list_models()]


def offer(name: str, wish: Wish) -> Offer:
    """It normalises and pads by itself; pictures keep their size."""
    family, _, backbone = name.partition("-")
    if family not in FAMILIES or not backbone:
        raise UnknownName(
            f"there is no detector 'detector/{name}': expected FAMILY-BACKBONE with a family of {', '.join(FAMILIES)} "
            f"and a backbone of timm, such as fcos-resnet18. {close_names(family, FAMILIES)}"
        )
    if wish.in_channels not in (1, 3):
        raise ModelError(f"detector/{name} takes pictures of 3 channels, the data has {wish.in_channels}.")
    arguments = {"num_classes": 90 if wish.num_classes is None else wish.num_classes, **wish.arguments}
    if wish.input_size is not None:
        arguments = {"size": list(wish.input_size), **arguments}
    return Offer(name, arguments, Preprocess.identity(3))


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The detector with fresh weights; see `pyramid_detector` for the arguments."""
    refuse_fetching(arguments)
    family, _, backbone = name.partition("-")
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("detectors on other backbones need timm: pip install 'tutelage[vision]'") from error
    if not timm.is_model(backbone):
        raise ModelError(f"there is no backbone {backbone!r} in timm. {close_names(backbone, timm.list_models())}")
    try:
        return pyramid_detector(family, backbone, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"detector/{name}: {error}.") from error


def pyramid_detector(
    family: str,
    backbone: str,
    *,
    num_classes: int,
    size: Sequence[int] = (800, 1333),
    channels: int = 128,
    stages: int = 3,
    **options: Any,
) -> nn.Module:
    """A detector on a feature pyramid over the last stages of a backbone.

    Args:
        family: ``"fcos"``, ``"retinanet"`` or ``"fasterrcnn"``.
        backbone: A model of timm.
        num_classes: Classes, without the background.
        size: Height and width of the pictures; others are scaled to them.
        channels: Width of the pyramid and of the heads.
        stages: How many stages of the backbone are used, the last ones.
        options: For torchvision's own class: ``score_thresh``, ``detections_per_img`` and others.

    Returns:
        The detector, normalising by itself as the backbone was trained. Its pyramid goes on for two coarser levels (one
        for Faster R-CNN).

    Raises:
        ValueError: The width does not suit the normalisation of the heads.
    """
    if channels % 8 or channels % min(32, channels // 4 or 1):
        raise ValueError(f"channels: expected a multiple of 8, and above 128 of 32, found {channels}")
    from functools import partial

    import timm
    from torchvision.models import detection
    from torchvision.models.detection import fcos
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops import FeaturePyramidNetwork
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    class Body(nn.Module):
        """A backbone and a pyramid over it."""

        def __init__(self) -> None:
            super().__init__()
            self.body = timm.create_model(backbone, features_only=True, out_indices=tuple(range(-stages, 0)))
            more = LastLevelMaxPool() if family == "fasterrcnn" else LastLevelP6P7(channels, channels)
            self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), channels, extra_blocks=more)
            self.out_channels = channels

        def forward(self, pictures: Any) -> Any:
            return self.fpn({str(n): x for n, x in enumerate(self.body(pictures))})

    body = Body()
    strides = body.body.feature_info.reduction()
    strides = [*strides, *(strides[-1] * 2 ** (n + 1) for n in range(1 if family == "fasterrcnn" else 2))]
    stated = body.body.pretrained_cfg
    shared = {
        "min_size": min(size),
        "max_size": max(size),
        "image_mean": list(stated["mean"]),
        "image_std": list(stated["std"]),
        **options,
    }
    groups = partial(nn.GroupNorm, min(32, channels // 4))
    made: nn.Module
    if family == "fasterrcnn":
        sizes: Any = tuple((4 * stride,) for stride in strides)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
        made = detection.FasterRCNN(body, num_classes + 1, rpn_anchor_generator=anchors, **shared)
    elif family == "fcos":
        anchors = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
        head = fcos.FCOSHead(channels, 1, num_classes + 1)
        head.classification_head = fcos.FCOSClassificationHead(channels, 1, num_classes + 1, norm_layer=groups)
        head.regression_head = fcos.FCOSRegressionHead(channels, 1, norm_layer=groups)
        made = detection.FCOS(body, num_classes + 1, anchor_generator=anchors, head=head, **shared)
    else:
        sizes = tuple(tuple(int(3 * stride * 2 ** (n / 3)) for n in range(3)) for stride in strides)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
        head = RetinaNetHead(channels, anchors.num_anchors_per_location()[0], num_classes + 1, norm_layer=groups)
        made = detection.RetinaNet(body, num_classes + 1, anchor_generator=anchors, head=head, **shared)
    return made
