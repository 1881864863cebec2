"""A detector as a graph: what it would choose from, before non-maximum suppression, for any number of pictures."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.errors import ModelError

from .detectors import decoded, family
from .preprocess import Preprocess


class Candidates(nn.Module):
    """From pictures to a box and class scores at every anchor; normalisation and decoding are inside.

    Non-maximum suppression is left to where the graph runs: its results have a size of their own for every picture,
    which neither `torch.export` nor a fixed graph can hold. Keep candidates above a score and suppress by class:
    ``torchvision.ops.batched_nms``, or ``NonMaxSuppression`` of ONNX.

    Args:
        network: A detector of one stage.

    Raises:
        ModelError: It has two stages: what the second looks at depends on the picture.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.family = family(network)
        if self.family not in ("fcos", "retinanet", "ssd"):
            raise ModelError(
                "expected a detector of one stage (FCOS, RetinaNet, SSD), found "
                f"{type(network).__name__}: what its second stage looks at depends on the picture, which no fixed "
                "graph can hold. Distil into a detector of one stage to export it."
            )
        self.network = network
        self.__dict__["preprocess"] = Preprocess.identity(3)

    def forward(self, pictures: Tensor) -> Tensor:
        """Candidates ``[B, A, 4 + C]``: left, top, right, bottom in pixels, a score in [0, 1] for each class.

        Args:
            pictures: ``[B, 3, H, W]`` in [0, 1].
        """
        net: Any = self.network
        size = pictures.shape[2:]
        shown, scaled = self._shown(pictures)
        maps = net.backbone(shown)
        maps = [maps] if isinstance(maps, Tensor) else list(maps.values())
        said = net.head(maps)
        anchors = self._anchors(maps, shown, scaled)
        codes = said["bbox_regression"]
        boxes = decoded(self.family, net.box_coder, codes, anchors)
        logits = said["cls_logits"]
        if self.family == "fcos":
            scores = (logits.sigmoid() * said["bbox_ctrness"].sigmoid()).sqrt()
        else:
            scores = logits.softmax(2) if self.family == "ssd" else logits.sigmoid()
        high, wide = scaled
        limit = boxes.new_tensor([wide, high, wide, high])
        back = boxes.new_tensor([size[1] / wide, size[0] / high, size[1] / wide, size[0] / high])
        return torch.cat([boxes.clamp(min=0).minimum(limit) * back, scores[..., 1:]], dim=2)

    def _shown(self, pictures: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Normalised, scaled and padded as the network's own transform does it, and the size before padding."""
        transform: Any = self.network.transform
        mean, std = (pictures.new_tensor(x).view(1, -1, 1, 1) for x in (transform.image_mean, transform.image_std))
        shown = (pictures - mean) / std
        height, width = pictures.shape[2:]
        if transform.fixed_size is not None:
            size = int(transform.fixed_size[1]), int(transform.fixed_size[0])
        else:
            least, most = transform.min_size[-1], transform.max_size
            scale = min(least / min(height, width), most / max(height, width))
            size = int(height * scale), int(width * scale)
        if size != (height, width):
            shown = F.interpolate(shown, size, mode="bilinear", align_corners=False)
        step = transform.size_divisible
        below, right = (-side % step for side in size)
        return F.pad(shown, (0, right, 0, below)), size

    def _anchors(self, maps: list[Tensor], shown: Tensor, size: tuple[int, int]) -> Tensor:
        """The anchors of one picture: the same for all."""
        from torchvision.models.detection.image_list import ImageList

        generator: Any = self.network.anchor_generator
        one = ImageList(shown[:1].detach(), [size])
        anchors: Tensor = generator(one, [x[:1].detach() for x in maps])[0]
        return anchors
