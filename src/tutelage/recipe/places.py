"""Places: where a loss stands when it is named alone, such as ``paths: [dist, attention]``."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tutelage.pairing import Pair, pair, vectors
from tutelage.path import wanted_extras
from tutelage.survey import Site

Sites = Mapping[str, Site]
Taps = str | list[str]

PLACES: dict[str, tuple[str, ...]] = {
    "answers": (
        *(
            "comparative",
            "csd",
            "dist",
            "dkd",
            "kl",
            "l1",
            "nkd",
            "one_vs_all",
            "soft_cross_entropy",
            "spherical",
            "transport",
        ),
        "virtual_teacher",
    ),
    "vector": (*("cc", "correlation", "crd", "info_nce", "mse", "pad", "pkt", "rkd_angle", "rkd_distance", "srrl"),),
    "deepest": (
        *("cwd", "dpk", "factor", "ft", "ifvd", "mgd", "nst", "pairwise", "pisr", "similarity", "token_relations"),
        "vid",
    ),
    "branch": ("activation_boundary", "ofd"),
    "stages": ("affinity", "channel_statistics", "fsp", "hierarchical_context", "irg", "kdsvd", "reviewkd", "semckd"),
    "each stage": ("attention",),
    "named": ("self_attention",),
}
"""Place -> its losses. *answers* are the outputs, *vector* is in front of both classifiers, *deepest* the last paired
stage, *branch* its last normalisation before a ReLU, *stages* all paired stages in one path, *each stage* one path for
each. What is *named* has no place of its own: a recipe says where its taps are."""

OPTIONS: dict[str, dict[str, Any]] = {"mse": {"standardise": True}}
"""Options that a loss has at its place, where they are not its defaults."""


def place_of(name: str, loss: Callable[..., Any]) -> str:
    """The place of a loss: where the table puts it, else the first that accepts it.

    Args:
        name: As in a recipe, lower-case.
        loss: The function, or the class.

    Example:
        >>> from tutelage.losses import nst
        >>> place_of("nst", nst), place_of("mine", nst), place_of("mine", lambda s, t: (s - t).sum(1))
        ('deepest', 'deepest', 'answers')
    """
    known = next((where for where, losses in PLACES.items() if name in losses), None)
    if known is not None:
        return known
    called: Any = loss.forward if inspect.isclass(loss) else loss  # type: ignore[attr-defined]
    if "head" in wanted_extras(called):
        return "vector"
    for where, shape in (("answers", (10,)), ("deepest", (8, 8, 8))):
        if _accepts(loss, torch.rand(4, *shape), shape):
            return where
    return "stages"


def taps_at(where: str, student: Sites, teachers: Mapping[str, Sites]) -> list[tuple[Taps, dict[str, Taps]]]:
    """The taps of the paths at a place: the student's, and those of each teacher.

    Returns:
        One pair for each path; empty where nothing pairs. Paths of several taps need the same ones of the student for
        all teachers: teachers for which others pair are left out.
    """
    if where == "named":
        return []
    if where == "answers":
        return [("", dict.fromkeys(teachers, ""))]
    if where == "vector":
        found = {name: vectors(student, places) for name, places in teachers.items()}
        ours: list[Pair] = [p for p in found.values() if p is not None]
        return [(ours[0].student, {name: p.teacher for name, p in found.items() if p is not None})] if ours else []
    pairs = {name: pair(student, places) for name, places in teachers.items()}
    if where == "stages":
        sides = {name: ([p.student for p in each], [p.teacher for p in each]) for name, each in pairs.items() if each}
        first = next(iter(sides.values()), ([], []))[0]
        same: dict[str, Taps] = {name: theirs for name, (mine, theirs) in sides.items() if mine == first}
        return [(first, same)] if first else []
    by_tap: dict[str, dict[str, Taps]] = {}
    for name, each in pairs.items():
        for p in each:
            by_tap.setdefault(p.student, {})[name] = p.teacher
    if where == "each stage":
        return list(by_tap.items())
    deepest = max(by_tap, key=lambda tap: student[tap].depth, default=None)
    if deepest is None:
        return []
    theirs = by_tap[deepest]
    if where == "branch":
        theirs = {name: _branch(teachers[name], str(tap)) for name, tap in theirs.items()}
        return [(_branch(student, deepest), theirs)]
    return [(deepest, theirs)]


def _branch(sites: Sites, stage: str) -> str:
    """The last normalisation inside a stage that has the stage's shape; the stage itself where there is none."""
    inside = (site for name, site in sites.items() if name.startswith(f"{stage}."))
    shaped = [site.name for site in inside if site.shape == sites[stage].shape]
    named = [name for name in shaped if any(word in name.rpartition(".")[2].lower() for word in ("bn", "norm"))]
    return named[-1] if named else stage


def _accepts(loss: Callable[..., Any], said: torch.Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a loss can be computed between two tensors of one shape."""
    extras = {"target": torch.zeros(len(said), dtype=torch.int64), "index": torch.arange(len(said)), "inputs": said}
    try:
        with torch.random.fork_rng(devices=[]):
            made: Any = loss() if inspect.isclass(loss) else loss
            if isinstance(made, nn.Module) and (bind := getattr(made, "bind", None)) is not None:
                bind(shape, shape, len(said))
            value = made(said, said.flip(0), **{want: extras.get(want) for want in wanted_extras(made)})
    except (ArithmeticError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    return isinstance(value, torch.Tensor) and value.shape == (len(said),)
