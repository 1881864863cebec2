"""The test pictures student and teachers disagree on most, with what each model said."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .read import Run
from .units import Metric, share

LARGEST = 224
"""Pictures are scaled down to this many pixels on their longer side."""

PANEL = "pictures/panel/"
"""What names of pictures of answers begin with."""

SCORE = "pictures/score/"
"""What names of the metric of such an answer begin with."""

UNKNOWN = "#000000"
"""The colour of pixels that have no class."""

SMALL = 96
"""Pictures below this size are drawn with their pixels visible."""


@dataclass(frozen=True)
class Answer:
    """What one model said about a picture."""

    model: str
    said: str
    sure: str
    right: bool


@dataclass(frozen=True)
class Picture:
    """One test picture.

    Args:
        source: The picture as a ``data:`` address.
        small: Whether its pixels should stay visible.
        truth: The true class.
        index: Its number in the data set.
        answers: What each model said, the student first.
        panels: Pictures of the truth and of what each model said: (what it shows, ``data:`` address).
    """

    source: str
    small: bool
    truth: str
    index: int
    answers: tuple[Answer, ...]
    panels: tuple[tuple[str, str], ...] = ()


def pictures(run: Run) -> list[Picture]:
    """The stored pictures; none where the evaluation kept none."""
    samples = run.samples
    if "pictures/image" not in samples or not {"target", "index"} & samples.keys():
        return []
    index = samples.get("index", samples.get("target"))
    assert index is not None
    drawn = {name.removeprefix(PANEL): images for name, images in samples.items() if name.startswith(PANEL)}
    metric = Metric(run.metric)

    def caption(name: str, number: int) -> str:
        scores = samples.get(SCORE + name)
        return Run.label(name) + ("" if scores is None else f" · {metric.value(float(scores[number]))}")

    return [
        Picture(
            source=_png(image),
            small=max(image.shape[-2:]) < SMALL,
            truth=_class(run, int(samples["target"][at])) if "target" in samples else "",
            index=int(index[at]),
            answers=tuple(_answers(run, at)),
            panels=tuple((caption(name, number), _png(images[number])) for name, images in _in_order(drawn)),
        )
        for number, (image, at) in enumerate(
            zip(samples["pictures/image"], samples["pictures/position"].tolist(), strict=True)
        )
    ]


def colour_key(run: Run) -> list[tuple[str, str]]:
    """Name and colour (``#rrggbb``) of each class that is seen in the pictures of answers, as far as it has one."""
    names, colours = run.evaluation.get("classes", []), run.evaluation.get("colours", [])
    panels = [images for name, images in run.samples.items() if name.startswith(PANEL)]
    if not panels or not colours:
        return []
    packed = torch.tensor([1 << 16, 1 << 8, 1])[:, None, None]
    seen = {f"#{code:06x}" for images in panels for code in set((images.long() * packed).sum(dim=1).flatten().tolist())}
    known = [*zip(names, colours, strict=False), ("without a class", UNKNOWN)]
    return [(str(name), colour) for name, colour in known if colour in seen]


def _in_order(drawn: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The truth, the teachers, the baseline, the student."""
    last = {"truth": 0, "baseline": 2, "student": 3}
    return sorted(drawn.items(), key=lambda item: (last.get(item[0], 1), item[0]))


def _answers(run: Run, at: int) -> list[Answer]:
    samples = run.samples
    if "target" not in samples:
        return []
    truth = int(samples["target"][at])
    spoke = [name for name in reversed(list(run.models)) if f"{name}/prediction" in samples]
    answers = []
    for name in spoke:
        said = int(samples[f"{name}/prediction"][at])
        sure = samples.get(f"{name}/confidence")
        confidence = "" if sure is None else share(float(sure[at]), 0)
        answers.append(Answer(Run.label(name), _class(run, said), confidence, said == truth))
    return answers


def _class(run: Run, number: int) -> str:
    names = run.evaluation.get("classes", [])
    return str(names[number]) if 0 <= number < len(names) else f"class {number}"


def _png(image: Tensor) -> str:
    """A uint8 picture ``[C, H, W]`` as a PNG address; of unusual channel counts the first channel."""
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(image.shape[0])
    if mode is None:
        image, mode = image[:1], "L"
    pixels = bytes(image.permute(1, 2, 0).flatten().tolist())
    picture = Image.frombytes(mode, (image.shape[2], image.shape[1]), pixels)
    picture.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
