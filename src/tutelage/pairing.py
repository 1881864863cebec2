"""Which tap of the student goes with which tap of the teacher, and what has to stand between.

Taps pair by stride, by depth and by token grid: the end of each resolution for models that
shrink the picture, evenly spaced blocks for models that keep one grid, and the vector in front of
both classifiers. The result is deterministic and meant to be read and edited.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import log2
from typing import Any

from torch import nn

from . import connectors
from .survey import Site
from .taps import module_name, reads_input

Sites = Mapping[str, Site]

STEM = 0.1
"""Share of a model that counts as its stem."""

MOST = 0.8
"""A model that spends this share of its depth on one grid, with at most one other, keeps its grid."""

FAR = 0.5
"""Taps further apart in relative depth than this do not pair, whatever their stride."""

COLUMNS = ("student tap", "shape", "connector", "teacher tap", "shape", "because")
"""What `table` holds, from left to right."""


@dataclass(frozen=True)
class Pair:
    """A tap of the student and the tap of the teacher it learns from.

    Args:
        student: The student's tap.
        teacher: The teacher's tap.
        student_shape: Shape of one sample at the student's tap.
        teacher_shape: Shape of one sample at the teacher's tap.
        connector: Names from `tutelage.connectors`, lower-case, in order; empty where the shapes agree.
        reason: Why these two.
    """

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]
    connector: tuple[str, ...]
    reason: str


def stages(sites: Sites) -> list[Site]:
    """The places of a model worth tapping, from the input to the output.

    Where a model shrinks the picture, the end of each resolution, under the shortest name it has (a
    container such as ``layer3`` or ``stages.2``). Where it keeps one grid behind its stem, four of its
    blocks at even distances.

    Args:
        sites: From `survey.survey`.

    Returns:
        Sites with a grid, or with tokens for models that read no picture; empty if the model has neither.
    """
    ends = _ends(sites)
    deep = [site.depth for site in ends if site.depth > STEM]
    longest = max((end - start for start, end in pairwise([0.0, *deep])), default=1.0)
    keeps_grid = len(deep) < 3 and longest > MOST
    return (_spaced(sites) if keeps_grid else []) or ends


def pair(student: Sites, teacher: Sites, *, most: int = 4) -> list[Pair]:
    """Pair the `stages` of two models, never crosswise.

    Where both shrink the picture, equal strides come first; then, and where one keeps its grid, the nearest
    relative depths.

    Args:
        student: The student's sites, from `survey.survey`.
        teacher: The teacher's sites; their input size may be another.
        most: How many pairs to return at most; the deepest are kept.

    Returns:
        Pairs from the input to the output; empty if no stage of one can be connected to one of the other.
    """
    ours, theirs = stages(student), stages(teacher)
    by_stride = _shrinks(ours) and _shrinks(theirs)
    ranked = sorted(
        (
            (by_stride and not _same_stride(s, t), abs(s.depth - t.depth), -s.depth, -t.depth, s, t)
            for s, t in product(ours, theirs)
            if abs(s.depth - t.depth) <= FAR and between(s, t) is not None
        ),
        key=lambda rank: rank[:4],
    )
    chosen: list[tuple[Site, Site]] = []
    for *_, s, t in ranked:
        if all((s.depth - other.depth) * (t.depth - its.depth) > 0 for other, its in chosen):
            chosen.append((s, t))
    chosen.sort(key=lambda two: two[0].depth)
    return [_pair(s, t, _reason(s, t)) for s, t in chosen[-most:]] if most > 0 else []


def vectors(student: Sites, teacher: Sites) -> Pair | None:
    """The vector in front of the student's classifier with that in front of the teacher's.

    Returns:
        The pair; None where one of the models has no classifier.
    """
    s, t = _before_classifier(student), _before_classifier(teacher)
    if s is None or t is None or between(s, t) is None:
        return None
    return _pair(s, t, "in front of both classifiers")


def between(student: Site, teacher: Site) -> tuple[str, ...] | None:
    """Which connectors lead from one site to another.

    Returns:
        Names from `tutelage.connectors`, in order; empty where the shapes agree; None where nothing of ours
        leads from one to the other (no map can be made of a vector).

    Example:
        >>> small = Site("layer2", (16, 8, 8), "map", 2.0, 0.5, (8, 8))
        >>> large = Site("blocks.5", (17, 192), "tokens", 4.0, 0.5, (4, 4), prefix=1)
        >>> between(small, large), between(large, small), between(small, small)
        (('resize', 'tokens', 'project'), ('tokens', 'resize', 'project'), ())
    """
    project = () if student.width == teacher.width else ("project",)
    resize = () if student.grid == teacher.grid else ("resize",)
    if resize and any(site.kind == "tokens" and not _square(site) for site in (student, teacher)):
        resizable = False  # `Resize` takes tokens for a square
    else:
        resizable = student.grid is not None and teacher.grid is not None
    match student.kind, teacher.kind:
        case "vector", "vector":
            return project
        case "map" | "tokens", "vector":
            return ("pool", *project)
        case "tokens", "tokens" if student.shape[0] == teacher.shape[0]:
            return project
        case "map", "map":
            return (*resize, *project)
        case "map", "tokens" if resizable:
            return (*resize, "tokens", *project)
        case "tokens", "map" if resizable:
            return ("tokens", *resize, *project)
        case "tokens", "tokens" if resizable and student.prefix >= teacher.prefix:
            return ("resize", *project)
        case "tokens", "tokens" if resizable:
            return ("tokens", *resize, "tokens", *project)
    return None


def build(pair: Pair) -> nn.Sequential:
    """The connectors of a pair, in order, bound to its shapes.

    Returns:
        A module from the student's tap ``[B, *student_shape]`` to ``[B, *teacher_shape]``.

    Example:
        >>> import torch
        >>> wire = build(Pair("layer2", "layer3", (16, 8, 8), (32, 4, 4), ("resize", "project"), "by hand"))
        >>> wire(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 32, 4, 4])
    """
    parts = [getattr(connectors, name.capitalize())() for name in pair.connector]
    wire = connectors.chain(*parts)
    bind: Any = wire.bind
    bind(pair.student_shape, pair.teacher_shape, None)
    return wire


def table(pairs: Iterable[Pair]) -> list[list[str]]:
    """Rows of text for people, one for each pair; `COLUMNS` names what they hold.

    Example:
        >>> table([Pair("layer3", "stages.2", (64, 8, 8), (64, 8, 8), (), "same stride 4")])
        [['layer3', '64x8x8', 'as it is', 'stages.2', '64x8x8', 'same stride 4']]
    """
    return [
        [
            pair.student,
            "x".join(map(str, pair.student_shape)),
            ", ".join(pair.connector) or "as it is",
            pair.teacher,
            "x".join(map(str, pair.teacher_shape)),
            pair.reason,
        ]
        for pair in pairs
    ]


def _pair(student: Site, teacher: Site, reason: str) -> Pair:
    names = between(student, teacher) or ()
    return Pair(student.name, teacher.name, student.shape, teacher.shape, names, reason)


def _reason(student: Site, teacher: Site) -> str:
    if _same_stride(student, teacher):
        return f"same stride {_octave(student.stride)}"
    depths = f"nearest depth, {student.depth:.2f} and {teacher.depth:.2f}"
    if student.stride is None or teacher.stride is None:
        return depths
    return f"{depths} (strides {student.stride:.3g} and {teacher.stride:.3g})"


def _square(site: Site) -> bool:
    return site.grid is not None and site.grid[0] == site.grid[1]


def _octave(stride: float | None) -> int | None:
    """The power of two a stride stands for: convolutions without padding give 37 instead of 32."""
    return None if stride is None else 2 ** round(log2(stride))


def _same_stride(student: Site, teacher: Site) -> bool:
    return student.stride is not None and _octave(student.stride) == _octave(teacher.stride)


def _shrinks(found: Sequence[Site]) -> bool:
    return len({_octave(site.stride) for site in found}) > 1


def _before_classifier(sites: Sites) -> Site | None:
    return next((site for site in sites.values() if reads_input(site.name)), None)


def _ends(sites: Sites) -> list[Site]:
    """The end of each resolution. Of the places that share one, the last that is no mere trimming."""
    tree = _Tree(sites)
    places = sorted(tree.open(""), key=lambda site: site.depth)
    largest = max(map(tree.size, places), default=1)
    by_stride: dict[int | None, list[Site]] = {}
    coarsest = 0.0
    for site in places:
        stride, size = site.stride or 0.0, tree.size(site)
        jumps = stride > 2 * coarsest > 0 or size == 1 or 4 * size < largest
        if (site.grid == (1, 1) and jumps) or (size == 1 and stride < coarsest):
            continue  # a global pooling, or one to a fixed grid (VGG)
        coarsest = max(coarsest, stride)
        by_stride.setdefault(_octave(site.stride), []).append(site)
    ends = []
    for same in by_stride.values():
        most = max(map(tree.size, same))
        ends.append([site for site in same if 4 * tree.size(site) >= most][-1])
    return sorted(ends, key=lambda site: site.depth)


class _Tree:
    """The sites as the tree their dotted names form."""

    def __init__(self, sites: Sites) -> None:
        self.sites = {module_name(site.name): site for site in sites.values() if not reads_input(site.name)}
        self.classifier = next((module_name(name) for name in sites if reads_input(name)), "")
        self.children: dict[str, dict[str, None]] = {}
        self.below: dict[str, list[Site]] = {}
        for name, site in self.sites.items():
            parts = name.split(".")
            for i in range(len(parts)):
                above = ".".join(parts[:i])
                self.children.setdefault(above, {})[".".join(parts[: i + 1])] = None
                self.below.setdefault(above, []).append(site)

    def size(self, site: Site) -> int:
        """How many sites it holds, itself included."""
        return 1 + len(self.below.get(module_name(site.name), ()))

    def open(self, name: str) -> list[Site]:
        """The outermost sites with a grid, those that span several resolutions replaced by what they hold."""
        site = self.sites.get(name)
        if site and site.grid and not self._spans(name):
            return [site]
        return [found for child in self.children.get(name, ()) for found in self.open(child)]

    def _spans(self, name: str) -> bool:
        """Whether a module holds whole resolutions, or the classifier, and not just one step down."""
        if f"{self.classifier}.".startswith(f"{name}."):
            return True
        parts = (self.sites[part] for part in self._parts(name))
        strides = {_octave(site.stride) for site in parts if site.grid and site.grid != (1, 1)}
        return len(strides) > 2 or (len(strides) > 1 and 2 * len(self.below[name]) > len(self.sites))

    def _parts(self, name: str) -> list[str]:
        """What a module is made of: looks through wrappers of a single part and lists that never run."""
        parts: list[str] = []
        for child in self.children.get(name, ()):
            parts += [child] if child in self.sites else self._parts(child)
        return (self._parts(parts[0]) or parts) if len(parts) == 1 else parts


def _spaced(sites: Sites, count: int = 4) -> list[Site]:
    """Evenly spaced members of the longest series (``blocks.0``, ``blocks.1`` …), of equals the outermost."""
    series: dict[tuple[object, ...], list[Site]] = {}
    for site in sites.values():
        if site.kind not in ("map", "tokens") or reads_input(site.name):
            continue
        for number in re.finditer(r"\d+", site.name):
            around = site.name[: number.start()], site.name[number.end() :]
            series.setdefault((*around, site.kind, site.width, site.stride), []).append(site)
    found = max(series.values(), key=lambda each: (len(each), -each[0].name.count("."), each[-1].depth), default=[])
    if len(found) < 2:
        return []
    count = min(count, len(found))
    return [found[(i + 1) * len(found) // count - 1] for i in range(count)]
