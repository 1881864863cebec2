"""Super-resolution: a picture that is a whole number of times as large."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.data import Splits
from tutelage.data.bicubic import upscale
from tutelage.data.hr_folder import open_pairs, recognised
from tutelage.errors import InputError, MissingExtra
from tutelage.ledger import BASE, Batch, Outputs
from tutelage.losses import l1
from tutelage.taps import inner

from .base import Kept, Task, finite, read
from .quality import luma, psnr, quantised, ssim

SHOWN = 64
"""Side of the part of each large picture that is kept for the report, in pixels."""

FINEST = 0.1 / 255
"""Mean differences below a tenth of a step of 8 bits count as that: they tell nothing."""

OVERLAP = 16
"""How many small pixels a tile sees beyond what is kept of it."""


class SuperResolution(Task):
    """A picture `scale` times as large; its own loss is the mean absolute difference.

    Pictures are compared as in the literature: clamped, rounded to 8 bits, on luma, without `scale` pixels at each
    border; the metric is the mean over pictures, in dB.

    Args:
        scale: How many times larger.
        tile: Whole pictures with a longer side than this (of the small picture) are enlarged in overlapping tiles of
            it; None: never. Nets that see farther than `OVERLAP` pixels, or the whole picture (RCAN's channel
            attention), give slightly other pixels then.

    Raises:
        InputError: The scale is below 2, or the tile not larger than two overlaps.

    Example:
        >>> task = SuperResolution(2)
        >>> batch = task.unpack((torch.zeros(3, 1, 4, 4), torch.ones(3, 1, 8, 8)))
        >>> task.base_loss({"": torch.full((3, 1, 8, 8), 0.75)}, batch)["base"]
        tensor([0.2500, 0.2500, 0.2500])
    """

    name = "super_resolution"
    metric = "psnr"
    reader = staticmethod(open_pairs)
    defaults: ClassVar[Mapping[str, Any]] = {
        "paths": ["l1"],
        "weighting": {"use": "auto", "response": 1.0},
        "data": {"batch_size": 16},
        "train": {"optimizer": "adamw", "lr": 5e-4, "weight_decay": 0.0},
    }
    any_size = True

    def __init__(self, scale: int = 2, *, tile: int | None = 512) -> None:
        if scale < 2:
            raise InputError(f"SuperResolution: expected a scale of 2 or more, found {scale}.")
        if tile is not None and tile <= 2 * OVERLAP:
            raise InputError(f"SuperResolution: expected a tile of more than {2 * OVERLAP} pixels, found {tile}.")
        self.scale, self.tile = scale, tile
        self.arguments = {"scale": scale}

    # -- data

    @classmethod
    def recognises(cls, source: Any) -> str | None:
        """A folder of pictures that no other folder divides, or one with HR and LR."""
        return recognised(source)

    @classmethod
    def for_data(cls, splits: Splits, **options: Any) -> "SuperResolution":
        """With the scale of the data.

        Raises:
            InputError: The recipe asks for another one.
        """
        scale = splits.facts.get("scale", options.get("scale", 2))
        if options.get("scale", scale) != scale:
            raise InputError(f"task.scale: expected {scale}, as in the data (data.scale); found {options['scale']}.")
        return cls(**{**options, "scale": scale})

    def unpack(self, raw: Any) -> Batch:
        """A `Batch` from ``{"inputs", "target", …}`` or ``(small, large)``; uint8 pictures become floats in [0, 1]."""
        if isinstance(raw, Batch):
            return raw
        fields = read(raw)
        if fields["target"].dtype == torch.uint8:
            fields["target"] = fields["target"].float().div_(255)
        return Batch(**fields)

    # -- models

    def call(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run a model; whole pictures that are too large in tiles. A model that ``sees_truth`` is given that."""
        pictures = batch.target if getattr(model, "sees_truth", False) else batch.inputs
        preprocess = getattr(inner(model), "preprocess", None) or nn.Identity()

        def run(part: Tensor) -> Tensor:
            return self.finish(model(preprocess(part)), part)

        large = self.tile is not None and max(pictures.shape[2:]) > self.tile
        if model.training or not large or pictures is batch.target:
            return run(pictures)
        assert self.tile is not None
        return tiled(run, pictures, self.scale, self.tile)

    def finish(self, output: Tensor, inputs: Tensor) -> Tensor:
        """Of a model of coloured pictures, grey ones where the inputs are grey."""
        return output.mean(dim=1, keepdim=True) if inputs.shape[1] == 1 < output.shape[1] else output

    def fits(self, output: Any, inputs: Tensor, columns: int | None) -> str | None:
        """Pictures `scale` times as large, of as many channels (or three where the inputs are grey)."""
        batch, channels, height, width = inputs.shape
        expected = [batch, channels, self.scale * height, self.scale * width]
        found = list(output.shape) if isinstance(output, Tensor) else []
        if found == expected or (channels == 1 and found == [batch, 3, *expected[2:]]):
            return None
        return f"pictures {self.scale} times as large, {expected},"

    def base_loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Mean absolute difference to the true picture, in units of white."""
        return {BASE: l1(outputs[""].float(), batch.target) * batch.labelled}

    def doubt(self, output: Tensor, batch: Batch) -> Tensor | None:
        """The logarithm of the mean absolute difference to the true picture.

        Up to a constant, it is minus the log likelihood of a pixel under Laplace noise as large as that difference.
        """
        if output.shape != batch.target.shape:
            return None
        return l1(output.float(), batch.target).clamp(min=FINEST).log()

    # -- how good

    def predict(self, output: Tensor) -> Tensor:
        """Pictures as a file of 8 bits keeps them, ``[B, C, H, W]`` in [0, 1]."""
        return quantised(output.float())

    def metrics(self) -> dict[str, Any]:
        """PSNR in dB and SSIM, both the mean over pictures."""
        try:
            from torchmetrics.aggregation import MeanMetric
        except ImportError as error:
            raise MissingExtra("metrics need torchmetrics: pip install 'tutelage[train]'") from error

        class Mean(MeanMetric):
            """Mean of a measure over pictures."""

            def __init__(self, measure: Callable[..., Tensor], shave: int) -> None:
                super().__init__()
                self.measure, self.shave = measure, shave

            def update(self, prediction: Tensor, target: Tensor) -> None:  # type: ignore[override]
                super().update(self.measure(prediction, target, shave=self.shave))

        return {"psnr": Mean(psnr, self.scale), "ssim": Mean(ssim, self.scale)}

    def keep(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Both metrics of each picture."""
        return {"psnr": psnr(prediction, target, shave=self.scale), "ssim": ssim(prediction, target, shave=self.scale)}

    def keep_beside(self, prediction: Tensor, target: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        """Both metrics of each picture, bicubic's, and the most detailed part of all."""
        plain = quantised(upscale(inputs, self.scale))
        place = _most_detailed(target)
        parts = {"crop": prediction, "truth": target, "bicubic": plain}
        shown = {name: _cut(pictures, place) for name, pictures in parts.items()}
        return {**self.keep(prediction, target), "bicubic_psnr": psnr(plain, target, shave=self.scale), **shown}

    def score(self, kept: Kept) -> Tensor:
        """PSNR of each picture."""
        return kept["psnr"]

    def suspect(self, name: str, kept: Kept) -> str | None:
        """Answers that are no numbers, or worse pictures than bicubic enlargement gives."""
        found, plain = (float(kept[key].mean()) for key in ("psnr", "bicubic_psnr"))
        broken = finite(name, kept["psnr"][:, None])
        if broken is not None or found > plain:
            return broken
        return (
            f"teacher {name!r}: expected better pictures than bicubic enlargement gives on the selection split "
            f"(over {plain:.2f} dB), found {found:.2f} dB. Check its weights, its scale and its range of colours."
        )

    # -- for the report

    def describe(self, kept: Kept, student: Kept | None = None) -> dict[str, Any]:
        """Bicubic's PSNR, and in how many pictures the model is better."""
        return {
            "bicubic_psnr": float(kept["bicubic_psnr"].mean()),
            "better_than_bicubic": float((kept["psnr"] > kept["bicubic_psnr"]).float().mean()),
        }

    def compact(self, model: str, kept: Kept) -> dict[str, Tensor]:
        """Both metrics of each picture."""
        return {"bicubic/psnr": kept["bicubic_psnr"], f"{model}/psnr": kept["psnr"], f"{model}/ssim": kept["ssim"]}

    def distance(self, student: Kept, teachers: list[Kept]) -> Tensor:
        """By how many dB the best teacher is better."""
        return torch.stack([teacher["psnr"] for teacher in teachers]).amax(dim=0) - student["psnr"]

    def panels(self, pictures: Tensor, said: Mapping[str, Kept]) -> dict[str, Tensor]:
        """The most detailed part of each picture: enlarged plainly, true, and as each model has it."""
        first = next(iter(said.values()))
        shown = {name: kept["crop"] for name, kept in said.items()}
        return {"bicubic": first["bicubic"], "truth": first["truth"], **shown}

    def captions(self, said: Mapping[str, Kept]) -> dict[str, Tensor]:
        """PSNR of the whole picture."""
        first = next(iter(said.values()))
        return {"bicubic": first["bicubic_psnr"]} | {name: kept["psnr"] for name, kept in said.items()}

    def agree(self, found: Tensor, expected: Tensor) -> float:
        """Share of pixels that come to the same step of 8 bits, or to one beside it."""
        first, second = (quantised(x.float()) for x in (found, expected))
        return float(((first - second).abs() < 1.5 / 255).double().mean())


def tiled(run: Callable[[Tensor], Tensor], pictures: Tensor, scale: int, tile: int) -> Tensor:
    """Enlarge pictures tile by tile; each tile is seen with its surroundings and cut out of the result.

    Args:
        run: Enlarges pictures.
        pictures: ``[B, C, H, W]``.
        scale: By how much.
        tile: Side of a tile with its surroundings, in small pixels.

    Example:
        >>> pictures = torch.rand(1, 1, 70, 40)
        >>> torch.equal(tiled(lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3), pictures, 2, 48),
        ...             pictures.repeat_interleave(2, 2).repeat_interleave(2, 3))
        True
    """
    height, width = pictures.shape[2:]
    step = tile - 2 * OVERLAP
    rows = []
    for top in range(0, height, step):
        line = []
        for left in range(0, width, step):
            up, over = max(0, top - OVERLAP), max(0, left - OVERLAP)
            part = pictures[..., up : top + step + OVERLAP, over : left + step + OVERLAP]
            bottom, right = min(top + step, height), min(left + step, width)
            kept = [slice((a - b) * scale, (c - b) * scale) for a, b, c in ((top, up, bottom), (left, over, right))]
            line.append(run(part)[..., kept[0], kept[1]])
        rows.append(torch.cat(line, dim=3))
    return torch.cat(rows, dim=2)


Places = Sequence[tuple[int, int]]


def _most_detailed(pictures: Tensor) -> Places:
    """Where each picture changes most from pixel to pixel, over a window of `SHOWN`."""
    grey = luma(pictures).float()
    change = torch.zeros_like(grey)
    change[..., 1:, :] += grey.diff(dim=2).abs()
    change[..., 1:] += grey.diff(dim=3).abs()
    window = [min(SHOWN, side) for side in grey.shape[2:]]
    sums = torch.nn.functional.avg_pool2d(change, window, stride=1)
    best, columns = sums.flatten(1).argmax(dim=1).tolist(), sums.shape[3]
    return [divmod(place, columns) for place in best]


def _cut(pictures: Tensor, places: Places) -> Tensor:
    """A window of each picture as uint8 ``[B, 3, SHOWN, SHOWN]``, filled up with white."""
    parts = torch.full((len(pictures), 3, SHOWN, SHOWN), 255, dtype=torch.uint8)
    for row, (top, left) in enumerate(places):
        window = (pictures[row, :, top : top + SHOWN, left : left + SHOWN] * 255).round().to(torch.uint8)
        parts[row, :, : window.shape[1], : window.shape[2]] = window.expand(3, -1, -1)
    return parts
