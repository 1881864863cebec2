"""Detectors of `torchvision`: trained by their own losses, one value a picture, and asked for boxes.

While it trains, such a network is run in parts, for its own forward gives one loss for all pictures together; the parts
and the losses are its own. Otherwise it is simply called. Boxes are in pixels of the pictures that are handed over, and
classes are counted from 0: the network's own class 0, the background, is no class here.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError

LOSSES = ("classification", "boxes")
"""What `losses` gives: what is wrong about classes (and about what is an object), and about boxes."""

HEADS = ("head.classification_head", "head.regression_head")
"""Where detectors of one stage give class logits and offsets."""


def family(model: nn.Module) -> str | None:
    """``"fcos"``, ``"retinanet"``, ``"ssd"`` or ``"rcnn"``; None if a model is none of them."""
    try:
        from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
        from torchvision.models.detection.ssd import SSD
    except ImportError:
        return None
    kinds = {"fcos": FCOS, "retinanet": RetinaNet, "ssd": SSD, "rcnn": FasterRCNN}
    return next((name for name, kind in kinds.items() if isinstance(model, kind)), None)


def is_detector(model: nn.Module) -> bool:
    """Whether a network is a detector of a family that can be trained here: FCOS, RetinaNet, SSD or Faster R-CNN."""
    return family(model) is not None


def losses(network: nn.Module, pictures: Tensor, target: Tensor) -> Tensor:
    """A detector's own losses, picture by picture.

    Args:
        network: In training mode.
        pictures: Not normalised, ``[B, 3, H, W]`` in [0, 1].
        target: ``[B, M, 5]``: left, top, right, bottom in pixels, class from 0; class -1 pads. Boxes without an area
            are left out.

    Returns:
        ``[B, 2]``, in the order of `LOSSES`. Each picture is divided by what it holds itself, as in RetinaNet; other
        families of torchvision divide by what the batch holds together, which is the same for a batch of one.

    Raises:
        ModelError: The network is of no known family.
    """
    kind = family(network)
    if kind is None:
        raise ModelError(
            f"expected a detector of torchvision (FCOS, RetinaNet, SSD, Faster R-CNN), found {type(network).__name__}. "
            "Take one of them: torchvision/NAME or detector/FAMILY-BACKBONE."
        )
    net: Any = network
    images, wanted = net.transform(pictures, _targets(target))
    features = net.backbone(images.tensors)
    features = {"0": features} if isinstance(features, Tensor) else features
    rows = _two_stages(net, images, features, wanted) if kind == "rcnn" else _one_stage(net, images, features, wanted)
    return torch.stack([torch.stack([_sum(row, CLASSES), _sum(row, BOXES)]) for row in rows])


def detections(network: nn.Module, pictures: Tensor) -> Tensor:
    """What a detector finds, after its own non-maximum suppression.

    Args:
        network: In evaluation mode.
        pictures: Not normalised, ``[B, 3, H, W]`` in [0, 1].

    Returns:
        ``[B, D, 6]``: left, top, right, bottom in pixels, class from 0, score in [0, 1]; class -1 pads. D is the most
        the network finds in one picture.
    """
    net: Any = network
    return packed(network(pictures), getattr(net, "roi_heads", net).detections_per_img)


def chosen(network: nn.Module, candidates: Tensor, pictures: Tensor) -> Tensor:
    """What a detector of one stage finds among its `candidates.Candidates`, with its own thresholds.

    Args:
        network: The detector, in evaluation mode.
        candidates: Of the pictures, ``[B, A, 4 + C]``, by whatever computed them.
        pictures: Not normalised, ``[B, 3, H, W]`` in [0, 1]; only their size is looked at.

    Returns:
        As `detections`: ``[B, D, 6]``.
    """
    from torchvision.ops import batched_nms

    net: Any = network
    boxes, scores = candidates[..., :4], candidates[..., 4:]
    # SSD takes so many of each class, the others of each level.
    parts, dim = (1, 2) if family(network) == "ssd" else (_anchors_by_level(net, pictures), 1)
    best = torch.cat([_largest(part, net.topk_candidates) for part in torch.split(scores, parts, dim=dim)], dim=dim)
    found = []
    for box, score in zip(boxes, best, strict=True):
        anchor, label = (score > net.score_thresh).nonzero().unbind(1)
        kept = batched_nms(box[anchor], score[anchor, label], label, net.nms_thresh)
        anchor, label = anchor[kept], label[kept]
        found.append({"boxes": box[anchor], "labels": label + 1, "scores": score[anchor, label]})
    return packed(found, net.detections_per_img)


def packed(found: Sequence[Mapping[str, Tensor]], most: int) -> Tensor:
    """Boxes, labels (from 1) and scores as torchvision gives them, as one tensor; see `detections`."""
    rows = []
    for each in found:
        here = each["labels"] > 0  # class 0 is the background, which heads of sigmoids have a column for, too
        boxes, labels, scores = each["boxes"][here], each["labels"][here] - 1, each["scores"][here]
        row = torch.cat([boxes, labels[:, None].to(boxes), scores[:, None]], dim=1)[:most]
        none = row.new_tensor([0, 0, 0, 0, -1, 0]).expand(most - len(row), 6)
        rows.append(torch.cat([row, none]))
    return torch.stack(rows)


@torch.no_grad()
def reorder(network: nn.Module, columns: Sequence[int]) -> None:
    """Put the classes of a detector in another order: its boxes, its heads and all that follows from them.

    The last layers for classes are changed in place.

    Args:
        network: The detector.
        columns: For each class, counted from 0 without the background, the number it had.
    """
    net: Any = network
    rows = [0, *(column + 1 for column in columns)]
    if family(network) == "rcnn":  # it has boxes for every class
        ends = [(net.roi_heads.box_predictor.cls_score, 1), (net.roi_heads.box_predictor.bbox_pred, 4)]
    elif family(network) == "ssd":
        layers = (list(level.modules())[-1] for level in net.head.classification_head.module_list)
        ends = [(layer, 1) for layer in layers]
    else:
        ends = [(net.head.classification_head.cls_logits, 1)]
    for layer, width in ends:
        for x in layer.parameters():
            by_class = x.reshape(-1, len(rows), width, *x.shape[1:])
            x.copy_(by_class[:, rows].reshape(x.shape))


def levels(network: nn.Module) -> list[str]:
    """The taps of a detector's feature pyramid, from fine to coarse; empty where it has none that is known."""
    names = [name for name, _ in network.named_modules()]
    neck = [f"backbone.fpn.layer_blocks.{n}" for n in range(16)] + [f"backbone.fpn.extra_blocks.p{n}" for n in (6, 7)]
    lite = [f"backbone.features.{n}" for n in range(2)] + [f"backbone.extra.{n}" for n in range(16)]
    ours = [f"backbone.levels.{n}" for n in range(16)]
    known = ([tap for tap in taps if tap in names] for taps in (neck, ours, lite))
    return next((taps for taps in known if taps), [])


def heads(network: nn.Module) -> tuple[str, str] | None:
    """The taps that give logits ``[B, A, C + 1]`` and offsets ``[B, A, 4]`` for every anchor; None in two stages."""
    return None if family(network) == "rcnn" else HEADS


def sigmoid(network: nn.Module) -> bool:
    """Whether its classes are asked for one by one (FCOS, RetinaNet), not against each other (SSD)."""
    return family(network) in ("fcos", "retinanet")


def inside_head(network: nn.Module) -> list[str]:
    """The taps inside both towers of a head, in front of the last activation but one.

    Returns:
        Those of the class tower, one for each level from fine to coarse, then those of the box tower; empty where the
        head has no two towers of convolutions and ReLUs.

    Example:
        >>> from torchvision.models.detection import fcos_resnet50_fpn
        >>> taps = inside_head(fcos_resnet50_fpn(weights=None, weights_backbone=None))
        >>> taps[0], taps[-1], len(taps)
        ('head.classification_head.conv.7:0', 'head.regression_head.conv.7:4', 10)
    """
    net: Any = network
    return [f"{tap}:{level}" for tap, _ in _towers(network) for level in range(len(net.anchor_generator.sizes))]


def rest_of_head(network: nn.Module) -> "RestOfHead | None":
    """What follows in a head behind the taps `inside_head`, sharing its weights; None where there are none."""
    rests = [rest for _, rest in _towers(network)]
    return RestOfHead(network, rests) if rests else None


def head_width(network: nn.Module) -> int:
    """Channels of the maps that a head is given, and of those at `inside_head`."""
    net: Any = network
    return int(net.backbone.out_channels)


class RestOfHead(nn.Module):
    """The rest of a dense detector's head, from features inside its towers to what it says at every anchor.

    Args:
        network: The detector.
        rests: The last layers of its class tower and of its box tower.
    """

    def __init__(self, network: nn.Module, rests: Sequence[nn.Module]) -> None:
        super().__init__()
        self.family, self.coder = family(network), network.box_coder
        self.classes, self.boxes = (
            _with_tower(network.get_submodule(head), rest) for head, rest in zip(HEADS, rests, strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits ``[B, A, C + 1]`` and boxes ``[B, A, 4]``, left, top, right and bottom in sizes of their anchor.

        Args:
            features: Maps ``[B, D, H, W]`` of all levels from the class tower, then as many from the box tower.
        """
        shown = [x.relu() for x in features]
        logits = self.classes(shown[: len(shown) // 2])
        codes = self.boxes(shown[len(shown) // 2 :])
        codes = codes[0] if isinstance(codes, tuple) else codes  # FCOS also says how central a place is
        anchor = codes.new_tensor([-0.5, -0.5, 0.5, 0.5]).expand(codes.shape[1], 4)
        return logits, decoded(self.family, self.coder, codes, anchor)


def _towers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Of both towers, the layer in front of the last ReLU but one, and what comes behind that."""
    found: list[tuple[str, nn.Module]] = []
    for head in HEADS if family(network) in ("fcos", "retinanet") else ():
        tower = network.get_submodule(f"{head}.conv")
        layers = [(f"{head}.conv.{name}", x) for name, x in tower.named_modules() if name and not any(x.children())]
        bends = [n for n, (_, x) in enumerate(layers) if isinstance(x, nn.ReLU)][-2:]
        if len(bends) == 2 and bends[0] > 0:
            found.append((layers[bends[0] - 1][0], nn.Sequential(*(x for _, x in layers[bends[0] + 1 :]))))
    return found if len(found) == len(HEADS) else []


def _with_tower(head: nn.Module, tower: nn.Module) -> nn.Module:
    """A head with another tower before its last layers, which stay the head's own."""
    short = copy.copy(head)
    short._modules = {**head._modules, "conv": tower}
    return short


def decoded(kind: str | None, coder: Any, codes: Tensor, anchors: Tensor) -> Tensor:
    """The boxes that the offsets of a one-stage detector stand for, ``[B, A, 4]``.

    Args:
        kind: Its `family`.
        coder: Its ``box_coder``.
        codes: Offsets, ``[B, A, 4]``.
        anchors: ``[A, 4]``, the same for all pictures.
    """
    if kind == "fcos":
        boxes: Tensor = coder.decode(codes, anchors)
        return boxes
    # len() would fix an exported graph to one number of pictures.
    each: Tensor = coder.decode_single(codes.reshape(-1, 4), anchors.expand_as(codes).reshape(-1, 4))
    return each.reshape(codes.shape)


def same_anchors(one: nn.Module, other: nn.Module) -> bool:
    """Whether two detectors answer for the same places in the same terms, so that heads can be compared."""
    if family(one) != family(other) or family(one) in (None, "rcnn"):
        return False
    ours, theirs = ((_anchors(net.anchor_generator), _columns(net), _sizes(net.transform)) for net in (one, other))
    return ours == theirs


def same_levels(one: nn.Module, other: nn.Module) -> bool:
    """Whether two dense detectors whose heads can be cut scale pictures alike and have as many levels."""
    inside: list[Any] = [(len(inside_head(net)), _sizes(net.transform)) for net in (one, other) if inside_head(net)]
    return len(inside) == 2 and inside[0] == inside[1]


@torch.no_grad()
def _anchors_by_level(net: Any, pictures: Tensor) -> list[int]:
    """How many candidates each level of a pyramid gives for pictures of this size."""
    blank = pictures.new_zeros(1, 3, *pictures.shape[2:])
    maps = net.backbone(net.transform(blank)[0].tensors).values()
    each = net.anchor_generator.num_anchors_per_location()
    return [x.shape[2] * x.shape[3] * count for x, count in zip(maps, each, strict=True)]


def _largest(scores: Tensor, most: int) -> Tensor:
    """The largest scores of each picture ``[B, ...]``; minus infinity in place of the others."""
    flat = scores.flatten(1)
    values, places = flat.topk(min(most, flat.shape[1]))
    return torch.full_like(flat, -torch.inf).scatter(1, places, values).view_as(scores)


def _columns(net: Any) -> int:
    """How many columns its logits have."""
    head = net.head.classification_head
    return int(getattr(head, "num_classes", 0) or head.num_columns)


def _sizes(transform: Any) -> Any:
    """What it scales pictures to."""
    return transform.fixed_size or (transform.min_size, transform.max_size)


def _anchors(generator: Any) -> Any:
    return [getattr(generator, name, None) for name in ("sizes", "aspect_ratios", "scales", "steps")]


CLASSES = ("classification", "loss_classifier", "loss_objectness")
BOXES = ("bbox_regression", "bbox_ctrness", "loss_box_reg", "loss_rpn_box_reg")


def _targets(target: Tensor) -> list[dict[str, Tensor]]:
    """One mapping a picture, as torchvision takes them; boxes without an area, which have no loss, are left out."""
    there = (target[..., 4] >= 0) & (target[..., 2] > target[..., 0]) & (target[..., 3] > target[..., 1])
    kept = [boxes[keep] for boxes, keep in zip(target, there, strict=True)]
    return [{"boxes": boxes[:, :4], "labels": boxes[:, 4].long() + 1} for boxes in kept]


def _one_stage(net: Any, images: Any, features: Mapping[str, Tensor], targets: Any) -> list[dict[str, Tensor]]:
    maps = list(features.values())
    outputs = net.head(maps)
    anchors = net.anchor_generator(images, maps)
    more: tuple[Any, ...] = ([x.shape[2] * x.shape[3] for x in maps],) if family(net) == "fcos" else ()
    rows = []
    for n, target in enumerate(targets):
        own = {name: output[n : n + 1] for name, output in outputs.items()}
        if family(net) == "ssd":
            more = ([_matched(net, target["boxes"], anchors[n])],)
        rows.append(net.compute_loss([target], own, [anchors[n]], *more))
    return rows


def _matched(net: Any, boxes: Tensor, anchors: Tensor) -> Tensor:
    """The box each anchor of an SSD stands for, -1 for none: what its forward does before it asks for the loss."""
    from torchvision.ops import box_iou

    if not len(boxes):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    matched: Tensor = net.proposal_matcher(box_iou(boxes, anchors))
    return matched


def _two_stages(net: Any, images: Any, features: Mapping[str, Tensor], targets: Any) -> list[dict[str, Tensor]]:
    """Proposals and their heads picture by picture: both draw among the boxes of one picture."""
    from torchvision.models.detection.image_list import ImageList

    rows = []
    for n, target in enumerate(targets):
        image = ImageList(images.tensors[n : n + 1], images.image_sizes[n : n + 1])
        own = {name: x[n : n + 1] for name, x in features.items()}
        proposals, first = net.rpn(image, own, [target])
        _, second = net.roi_heads(own, proposals, image.image_sizes, [target])
        rows.append({**first, **second})
    return rows


def _sum(row: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    return torch.stack([row[name] for name in names if name in row]).sum()
