"""Figures of the test split: single classes, confusion, and how far confidence can be believed."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .figures import BASELINE, NEUTRAL, OTHERS, STUDENT, Figure, Trace, figure, finite, text
from .read import Run
from .units import share

CLASSES = 20
"""Bars are drawn for at most this many classes."""

BINS = 15
"""Bins of confidence, of equal width."""

FEWEST = 10
"""A bin with fewer samples is not drawn: its accuracy is mostly chance."""

_HUES = {"student": STUDENT, "baseline": BASELINE}


def evaluated(run: Run) -> list[Figure]:
    """The figures of the test split for which something was evaluated."""
    return [one for one in (classes(run), reliability(run), confusion(run)) if one is not None]


def classes(run: Run) -> Figure | None:
    """Accuracy of student, baseline and best teacher on each class."""
    names = run.evaluation.get("classes", [])
    shown = {name: run.models[name]["per_class"] for name in _shown(run) if run.models[name].get("per_class")}
    if "student" not in shown:
        return None
    order = _choose(shown, len(names))
    what = run.evaluation.get("of_class", "accuracy")
    title = what[0].upper() + what[1:]
    caption = "Share of each class's test samples that is recognised."
    if what != "accuracy":
        caption = f"{title} of each class over the test split."
    if len(order) < len(names):
        why = "where student and baseline differ most" if "baseline" in shown else "that the student knows least"
        caption += f" Of {len(names)} classes, the {len(order)} {why}."
    labels = [text(names[c], most=16) for c in order]
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": text(Run.label(name)),
            "marker": {"color": _HUES.get(name, OTHERS[0])},
            "y": list(range(len(order))),
            "x": [finite(accuracies[c], 100) for c in order],
            "customdata": labels,
            "hovertemplate": "%{customdata}: %{x:.1f}%<extra>%{fullData.name}</extra>",
        }
        for name, accuracies in shown.items()
    ]
    ticks = {
        "tickvals": list(range(len(order))),
        "ticktext": labels,
        "autorange": "reversed",
        "automargin": True,
    }
    return figure(
        "classes", f"{title} per class", caption, traces, x=f"{what} (%)", wide=True,
        height=110 + len(order) * (12 + 11 * len(traces)), barmode="group", bargap=0.25,
        yaxis=ticks, xaxis_range=[0, 100],
    )  # fmt: skip


def confusion(run: Run) -> Figure | None:
    """What the student takes each class for."""
    table = run.models.get("student", {}).get("confusion")
    if not table:
        return None
    names = [text(name, most=16) for name in run.evaluation["classes"]]
    numbers = list(range(len(names)))
    shares = [[cell / (sum(row) or 1) for cell in row] for row in table]
    few = len(names) <= 12
    trace: Trace = {
        "type": "heatmap",
        "x": numbers,
        "y": numbers,
        "z": [[math.sqrt(cell) for cell in row] for row in shares],
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "text": [[f"{100 * cell:.0f}" if cell >= 0.005 else "" for cell in row] for row in shares],
        "texttemplate": "%{text}" if few else "",
        "customdata": [
            [
                f"true {names[i]}, taken for {names[j]}: {share(cell)}, {table[i][j]} samples"
                for j, cell in enumerate(row)
            ]
            for i, row in enumerate(shares)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "automargin": True}
    axis |= {"tickvals": numbers, "ticktext": names} if len(names) <= 40 else {"showticklabels": False}
    slant = 0 if max(map(len, names)) < 4 else -45
    caption = (
        "Each row is a true class and sums to 100%"
        + ("; the numbers are per cent. " if few else ". ")
        + "The colour grows with the square root of the share, so that rare mistakes can be seen."
    )
    return figure(
        "confusion", "Confusion of the student", caption, [trace], wide=not few,
        height=min(760, max(400, 150 + 32 * len(names))),
        xaxis={"title": {"text": "the student says"}, "tickangle": slant, **axis},
        yaxis={"title": {"text": "true class"}, "autorange": "reversed", **axis},
    )  # fmt: skip


def reliability(run: Run) -> Figure | None:
    """How often each model is right when it is so sure."""
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "ideal",
            "x": [0, 100],
            "y": [0, 100],
            "hoverinfo": "skip",
            "line": {"color": NEUTRAL, "dash": "dash", "width": 1},
        }
    ]
    traces += [trace for name in _shown(run) for trace in _reliability_of(run, name)]
    if len(traces) == 1:
        return None
    caption = (
        f"Test samples in {BINS} bins of equal width by confidence; larger dots hold more samples, "
        f"bins of fewer than {FEWEST} are left out. "
        "On the dashed line a model is right as often as it claims; below it, it is too sure."
    )
    axis = {"range": [0, 103]}
    return figure(
        "reliability", "Reliability", caption, traces, x="mean confidence (%)", y="accuracy (%)",
        height=400, xaxis_range=axis["range"], yaxis_range=axis["range"],
    )  # fmt: skip


def bins(samples: Mapping[str, Tensor], model: str) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of samples of each bin that is not empty."""
    names = ("target", f"{model}/prediction", f"{model}/confidence")
    if not all(name in samples for name in names):
        return []
    target, prediction, confidence = (samples[name] for name in names)
    sure = confidence.double()
    right = (target == prediction).double()
    number = (sure * BINS).long().clamp(0, BINS - 1)
    members = [number == n for n in range(BINS)]
    return [(float(sure[m].mean()), float(right[m].mean()), int(m.sum())) for m in members if bool(m.any())]


def _reliability_of(run: Run, model: str) -> list[Trace]:
    points = [point for point in bins(run.samples, model) if point[2] >= FEWEST]
    if not points:
        return []
    most = max(size for *_, size in points)
    ece = run.models[model].get("ece")
    colour = _HUES.get(model, OTHERS[0])
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": text(Run.label(model)) + (f", ECE {share(ece)}" if ece is not None else ""),
            "x": [100 * sure for sure, _, _ in points],
            "y": [100 * right for _, right, _ in points],
            "line": {"color": colour, "width": 1.5},
            "marker": {"color": colour, "size": [4 + 12 * math.sqrt(size / most) for *_, size in points]},
            "customdata": [size for *_, size in points],
            "hovertemplate": "%{x:.0f}% sure, right in %{y:.0f}% of %{customdata} samples"
            "<extra>%{fullData.name}</extra>",
        }
    ]


def _choose(shown: Mapping[str, list[float | None]], number: int) -> list[int]:
    """The classes that get bars: all, or those with the most to tell."""
    if number <= CLASSES:
        return list(range(number))

    def key(c: int) -> float:
        student = finite(shown["student"][c]) or 0.0
        return -abs(student - (finite(shown["baseline"][c]) or 0.0)) if "baseline" in shown else student

    return sorted(range(number), key=key)[:CLASSES]


def _shown(run: Run) -> list[str]:
    """Student, baseline and best teacher, as far as they were evaluated."""
    return [name for name in ("student", "baseline", run.best_teacher) if name is not None and name in run.models]
