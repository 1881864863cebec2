"""``detector/FAMILY-BACKBONE``: detectors of `torchvision` on a backbone of `timm`."""

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from tutelage.errors import InputError, MissingExtra, ModelError, UnknownName, close_names
from tutelage.models.preprocess import Preprocess

from .base import Offer, Wish, refuse_fetching


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
        made = pyramid_detector(family, backbone, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"detector/{name}: {error}.") from error
    takers: tuple[Any, ...] = (pyramid_detector, type(made), type(made.transform))
    known = [name for taker in takers for name in inspect.signature(taker).parameters]
    known += ["min_ratio"] if family == "ssdlite" else []
    for argument in arguments:
        if argument not in known:  # torchvision's classes take any name, and say nothing
            told = close_names(argument, known)
            raise InputError(f"detector/{name}: there is no argument {argument!r}. {told}")
    return made


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
    """A detector on a feature pyramid over the last stages of a backbone, or on the stages themselves (SSDLite).

    Args:
        family: ``"fcos"``, ``"retinanet"``, ``"fasterrcnn"`` or ``"ssdlite"``.
        backbone: A model of timm.
        num_classes: Classes, without the background.
        size: Height and width of the pictures; others are scaled to them.
        channels: Width of the pyramid and of the heads; of SSDLite that of the levels behind the backbone.
        stages: How many stages of the backbone are used, the last ones.
        options: For torchvision's own class: ``score_thresh``, ``detections_per_img`` and others. SSDLite also takes
            ``min_ratio``, the side of its smallest boxes as a share of the picture's, 0.1 by default.

    Returns:
        The detector, normalising by itself as the backbone was trained. Behind the backbone it goes on for two coarser
        levels (one for Faster R-CNN).

    Raises:
        ValueError: The width does not suit the normalisation of the heads.
    """
    if channels % 8 or channels % min(32, channels // 4 or 1):
        raise ValueError(f"channels: expected a multiple of 8, and above 128 of 32, found {channels}")
    import timm

    body = timm.create_model(backbone, features_only=True, out_indices=tuple(range(-stages, 0)))
    stated = body.pretrained_cfg
    shared = {"image_mean": list(stated["mean"]), "image_std": list(stated["std"]), **options}
    made: nn.Module = FAMILIES[family][1](body, channels, num_classes + 1, size, shared)
    return made


class Pyramid(nn.Module):
    """A backbone and a pyramid over it; `strides` are those of its levels."""

    def __init__(self, body: Any, channels: int, more: nn.Module, levels: int) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), channels, extra_blocks=more)
        self.out_channels = channels
        strides = body.feature_info.reduction()
        self.strides = [*strides, *(strides[-1] * 2 ** (n + 1) for n in range(levels))]

    def forward(self, pictures: Tensor) -> Any:
        """The maps of all levels, from fine to coarse."""
        return self.fpn({str(n): x for n, x in enumerate(self.body(pictures))})


class Levels(nn.Module):
    """The stages of a backbone and two coarser levels behind them; each can be tapped under ``levels``."""

    def __init__(self, body: Any, channels: int, norm: Callable[..., nn.Module]) -> None:
        from torchvision.ops import Conv2dNormActivation

        super().__init__()
        widths = body.feature_info.channels()
        self.body = body
        self.levels = nn.ModuleList(nn.Identity() for _ in (*widths, channels, channels))
        self.extra = nn.ModuleList()
        shared: dict[str, Any] = {"norm_layer": norm, "activation_layer": nn.ReLU6}
        for before in (widths[-1], channels):
            half = channels // 2
            self.extra.append(
                nn.Sequential(
                    Conv2dNormActivation(before, half, kernel_size=1, **shared),
                    Conv2dNormActivation(half, half, kernel_size=3, stride=2, groups=half, **shared),
                    Conv2dNormActivation(half, channels, kernel_size=1, **shared),
                )
            )
        self.out_channels = [*widths, channels, channels]

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """The maps of all levels, from fine to coarse."""
        maps = list(self.body(pictures))
        for block in self.extra:
            maps.append(block(maps[-1]))
        return {str(n): level(x) for n, (level, x) in enumerate(zip(self.levels, maps, strict=True))}


def fcos(body: Any, channels: int, columns: int, size: Sequence[int], shared: dict[str, Any]) -> Any:
    """FCOS, normalised by groups."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOS, FCOSClassificationHead, FCOSHead, FCOSRegressionHead
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    whole = Pyramid(body, channels, LastLevelP6P7(channels, channels), 2)
    groups = partial(nn.GroupNorm, min(32, channels // 4))
    anchors = AnchorGenerator(tuple((stride,) for stride in whole.strides), ((1.0,),) * len(whole.strides))
    head = FCOSHead(channels, 1, columns)
    head.classification_head = FCOSClassificationHead(channels, 1, columns, norm_layer=groups)
    head.regression_head = FCOSRegressionHead(channels, 1, norm_layer=groups)
    shared = {"min_size": min(size), "max_size": max(size), **shared}
    return FCOS(whole, columns, anchor_generator=anchors, head=head, **shared)


def retinanet(body: Any, channels: int, columns: int, size: Sequence[int], shared: dict[str, Any]) -> Any:
    """RetinaNet, normalised by groups."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    whole = Pyramid(body, channels, LastLevelP6P7(channels, channels), 2)
    groups = partial(nn.GroupNorm, min(32, channels // 4))
    sizes = tuple(tuple(int(3 * stride * 2 ** (n / 3)) for n in range(3)) for stride in whole.strides)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = RetinaNetHead(channels, anchors.num_anchors_per_location()[0], columns, norm_layer=groups)
    shared = {"min_size": min(size), "max_size": max(size), **shared}
    return RetinaNet(whole, columns, anchor_generator=anchors, head=head, **shared)


def faster_rcnn(body: Any, channels: int, columns: int, size: Sequence[int], shared: dict[str, Any]) -> Any:
    """Faster R-CNN."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

    whole = Pyramid(body, channels, LastLevelMaxPool(), 1)
    sizes: Any = tuple((4 * stride,) for stride in whole.strides)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    shared = {"min_size": min(size), "max_size": max(size), **shared}
    return FasterRCNN(whole, columns, rpn_anchor_generator=anchors, **shared)


def ssdlite(body: Any, channels: int, columns: int, size: Sequence[int], shared: dict[str, Any]) -> Any:
    """SSDLite: depthwise heads on the levels themselves."""
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD
    from torchvision.models.detection.ssdlite import SSDLiteHead

    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)  # as torchvision's own SSDLite has it
    least = shared.pop("min_ratio", 0.1)
    whole = Levels(body, channels, norm)
    anchors = DefaultBoxGenerator([[2, 3]] * len(whole.out_channels), min_ratio=least, max_ratio=0.95)
    head = SSDLiteHead(whole.out_channels, anchors.num_anchors_per_location(), columns, norm)
    return SSD(whole, anchors, (size[1], size[0]), columns, head=head, **shared)


FAMILIES: dict[str, tuple[type[nn.Module], Callable[..., Any]]] = {
    "fcos": (Pyramid, fcos),
    "retinanet": (Pyramid, retinanet),
    "fasterrcnn": (Pyramid, faster_rcnn),
    "ssdlite": (Levels, ssdlite),
}
"""Of each family what lies behind the backbone, and what builds the whole."""
