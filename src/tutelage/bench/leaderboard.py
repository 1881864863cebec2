"""Leaderboard: methods by what they reached, each with its paired difference to others."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tutelage import verdict

from .results import Line, unpack

Found = Mapping[tuple[str, int], Line]
"""The finished runs, by method and seed."""


def leaderboard(
    found: Found,
    methods: Sequence[str],
    *,
    against: Sequence[str],
    higher_is_better: bool = True,
    **judging: Any,
) -> list[dict[str, Any]]:
    """One row for each method that has a finished run, the best first; after them those that lack a seed.

    Args:
        found: The finished runs.
        methods: Methods to rank.
        against: Methods that each is compared with.
        higher_is_better: Whether a larger score is better.
        judging: More for `verdict.judge`: groups, blocks and parts of the test samples.

    Returns:
        For each method ``{"method", "seeds", "test", "spread", "validation", "seconds", "teachers", "paths",
        "against"}``; ``spread`` is the standard deviation over seeds, ``teachers`` and ``paths`` mean weights, and
        ``against`` holds what `compare` gives, by method.
    """
    rows = []
    for method in methods:
        lines = [line for (name, _), line in sorted(found.items()) if name == method]
        if not lines:
            continue
        tests = [line["test"] for line in lines]
        others = {
            other: compare(found, method, other, higher_is_better=higher_is_better, **judging)
            for other in dict.fromkeys(against)
            if other != method
        }
        row = {
            "method": method,
            "seeds": [line["seed"] for line in lines],
            "test": statistics.mean(tests),
            "spread": statistics.stdev(tests) if len(tests) > 1 else None,
            "validation": statistics.mean(line["validation"] for line in lines),
            "seconds": statistics.mean(line["seconds"] for line in lines),
            "teachers": _means([line["weights"]["teachers"] for line in lines]),
            "paths": _means([line["weights"]["paths"] for line in lines]),
            "against": {other: told for other, told in others.items() if told is not None},
        }
        rows.append(row)
    best = sorted(rows, key=lambda row: row["test"], reverse=higher_is_better)
    return sorted(best, key=lambda row: len(row["seeds"]), reverse=True)  # a mean over fewer seeds is of other seeds


def compare(
    found: Found, method: str, other: str, *, higher_is_better: bool = True, **judging: Any
) -> dict[str, Any] | None:
    """A method minus another on the same test samples, over the seeds that both have; None without one.

    Returns:
        ``{"delta", "interval", "verdict", "seeds"}``; the verdict is ``better``, ``worse`` or ``not resolved``: the
        interval spans 0, or does not clear it by what `verdict.judge` asks for.
    """
    seeds = sorted({s for name, s in found if name == method} & {s for name, s in found if name == other})
    if not seeds:
        return None
    ours, theirs = (torch.stack([unpack(found[name, s]["scores"]) for s in seeds]) for name in (method, other))
    judged = verdict.judge(ours, theirs, higher_is_better=higher_is_better, **judging)
    low, high = judged.interval
    word = "not resolved" if low <= 0 <= high or judged.verdict == "no difference" else judged.verdict
    return {"delta": judged.delta, "interval": [low, high], "verdict": word, "seeds": seeds}


def left_out(
    found: Found,
    whole: str,
    without: Sequence[tuple[str, str, str]],
    *,
    higher_is_better: bool = True,
    **judging: Any,
) -> list[dict[str, Any]]:
    """What each teacher and each path brings: the whole method minus the method without it.

    Args:
        found: The finished runs.
        whole: The whole method.
        without: ``teacher`` or ``path``, its name, and the method without it.
        higher_is_better: Whether a larger score is better.
        judging: More for `verdict.judge`.

    Returns:
        For each part that was left out ``{"kind", "name", "method", "delta", "interval", "verdict", "seeds"}``; the
        verdict is ``helps``, ``harms`` or ``not resolved``.
    """
    words = {"better": "helps", "worse": "harms"}
    rows = []
    for kind, name, method in without:
        told = compare(found, whole, method, higher_is_better=higher_is_better, **judging)
        if told is not None:
            word = words.get(told["verdict"], told["verdict"])
            rows.append({"kind": kind, "name": name, "method": method, **told, "verdict": word})
    return rows


def _means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(weights[name] for weights in each if name in weights) for name in each[0]}
