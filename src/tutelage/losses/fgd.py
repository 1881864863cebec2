"""Focal and global distillation: objects and background apart, and what the whole picture says about each place."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cells import need_boxes, under_boxes
from .learned import Learned, Sizes
from .maps import Features, Shape, levels, need_maps
from .precision import full


class FGD(Learned):
    """Squared distance between features, heavier where the teacher looks, of objects and background apart; the
    distance between both attentions; and that between what a global block makes of either map.

    Of several taps, such as the levels of a pyramid, the sum.

    Args:
        student: Shape of one sample, ``(C, H, W)``, or of several taps; None to learn it in `bind`.
        teacher: The same of the teacher, on the same grids; None to learn it in `bind`.
        objects: What the distance under boxes is multiplied by; each box counts the same, however large it is.
        background: The same of the distance beside boxes.
        attention: The same of the distance between attentions.
        context: The same of the distance behind the global blocks.
        temperature: T > 0 of the attentions; smaller ones are sharper.
        normalise: Divide the maps of both by the root mean square of the teacher's, picture by picture and level by
            level. The published temperatures and weights are for maps of about unit size: of maps of ten times that
            the attentions fall on one channel and a few places, and the rest of the picture is not heard.

    Raises:
        ValueError: A shape is not known, the grids differ, or an option is out of range.

    Reference:
        Yang et al. 2022, arXiv:2111.11837, eq. 2 to 14, summed over a sample's elements as in the authors' code. The
        defaults are theirs for RetinaNet; FCOS has 1.6e-3, 8e-4, 8e-4, 8e-6 and T = 0.8, two-stage detectors 5e-5,
        2.5e-5, 5e-5 and 5e-7. As there, boxes reach one cell farther to the right and below, and the weights of the
        teacher alone are used. `normalise` is ours.

    Example:
        >>> loss = FGD(student=(4, 8, 8), teacher=(6, 8, 8))
        >>> target, picture = torch.tensor([[[0.0, 0.0, 16.0, 16.0, 1.0]]]), torch.zeros(1, 3, 64, 64)
        >>> loss(torch.randn(1, 4, 8, 8), torch.randn(1, 6, 8, 8), target=target, inputs=picture).shape
        torch.Size([1])
    """

    align: nn.ModuleList
    ours: nn.ModuleList
    theirs: nn.ModuleList

    def __init__(
        self,
        *,
        student: Sizes | None = None,
        teacher: Sizes | None = None,
        objects: float = 1e-3,
        background: float = 5e-4,
        attention: float = 5e-4,
        context: float = 5e-6,
        temperature: float = 0.5,
        normalise: bool = False,
    ) -> None:
        super().__init__(student, teacher)
        self.weights = objects, background, attention, context
        if min(self.weights) < 0 or not temperature > 0:
            raise ValueError(
                f"FGD: expected weights of 0 or more and a temperature above 0, found {self.weights} and {temperature}."
            )
        self.temperature = temperature
        self.normalise = normalise
        self.settle()

    def build(self, student: Shape | tuple[Shape, ...], teacher: Shape | tuple[Shape, ...]) -> None:
        """Make the global blocks, and a 1x1 convolution in front where the widths differ."""
        ours, theirs = (_several(shapes) for shapes in (student, teacher))
        if len(ours) != len(theirs) or any(len(s) != 3 or s[1:] != t[1:] for s, t in zip(ours, theirs, strict=True)):
            raise ValueError(
                f"FGD: expected as many maps (C, H, W) of the student as of the teacher, on the same grids; found "
                f"{ours} and {theirs}. Put `connectors.Resize` in this path."
            )
        widths = [(s[0], t[0]) for s, t in zip(ours, theirs, strict=True)]
        self.align = nn.ModuleList(
            nn.Identity() if here == there else nn.Conv2d(here, there, 1) for here, there in widths
        )
        self.ours, self.theirs = (nn.ModuleList(_Global(there) for _, there in widths) for _ in range(2))

    def forward(self, student: Features, teacher: Features, /, *, target: Tensor, inputs: Tensor) -> Tensor:
        """The loss.

        Args:
            student: Feature maps, ``[B, C_s, H, W]``, or a tuple of them.
            teacher: Feature maps, ``[B, C_t, H, W]``, or a tuple of them.
            target: ``[B, M, 5]``: left, top, right, bottom in pixels, class; class -1 pads.
            inputs: The pictures, for their size.

        Returns:
            ``[B]``, at least 0.
        """
        self.need_built()
        need_boxes("FGD", target, inputs)
        values = []
        for n, (seen, heard) in enumerate(levels("FGD", student, teacher)):
            need_maps("FGD", seen, heard, grid=True)
            with torch.autocast(seen.device.type, enabled=False):
                known = full(heard.detach())
                values.append(self._level(n, self.align[n](full(seen)), known, target, tuple(inputs.shape[2:])))
        return torch.stack(values).sum(dim=0)

    def _level(self, n: int, student: Tensor, teacher: Tensor, target: Tensor, size: tuple[int, ...]) -> Tensor:
        if self.normalise:
            unit = teacher.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
            student, teacher = student / unit, teacher / unit
        places, channels = zip(*(_attention(x, self.temperature) for x in (student, teacher)), strict=True)
        cells = under_boxes(target, size, tuple(teacher.shape[2:]), reach=1.0)
        areas = cells.sum(dim=(2, 3)).clamp(min=1).to(teacher.dtype)
        objects = (cells / areas[:, :, None, None]).amax(dim=1)
        beside = ~cells.any(dim=1)
        background = beside / beside.sum(dim=(1, 2), keepdim=True).clamp(min=1)
        weighed = places[1][:, None] * channels[1][:, :, None, None] * (student - teacher).square()
        near, far = ((weighed * mask[:, None]).flatten(1).sum(dim=1) for mask in (objects, background))
        looks = sum((a[0] - a[1]).abs().flatten(1).sum(dim=1) for a in (places, channels))
        behind = (self.ours[n](student) - self.theirs[n](teacher)).square().flatten(1).sum(dim=1)
        terms = torch.stack([near, far, torch.as_tensor(looks), behind])
        return (terms * terms.new_tensor(self.weights)[:, None]).sum(dim=0)


class _Global(nn.Module):
    """A map, to which is added what all its places say together; it adds nothing at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.where = nn.Conv2d(channels, 1, 1)
        self.add = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.LayerNorm([inner, 1, 1]), nn.ReLU(), nn.Conv2d(inner, channels, 1)
        )
        last = self.add[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        share = self.where(x).flatten(2).softmax(dim=2)
        context = (x.flatten(2) * share).sum(dim=2)[:, :, None, None]
        added: Tensor = x + self.add(context)
        return added


def _attention(x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """How much a map looks at each place, ``[B, H, W]``, and at each channel, ``[B, C]``; 1 on average."""
    size = x.abs()
    place = F.softmax(size.mean(dim=1).flatten(1) / temperature, dim=1).view(len(x), *x.shape[2:])
    channel = F.softmax(size.mean(dim=(2, 3)) / temperature, dim=1)
    return place * place[0].numel(), channel * channel.shape[1]


def _several(shapes: Shape | tuple[Shape, ...]) -> tuple[Shape, ...]:
    return shapes if isinstance(shapes[0], tuple) else (shapes,)
