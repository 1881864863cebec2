"""Which teacher was heard for which class."""

import math
from typing import Any

from .figures import Figure, Trace, figure, finite, text
from .read import Run
from .units import weight

CLASSES = 40
"""At most this many classes are drawn."""


def class_weights(run: Run) -> Figure | None:
    """Mean weight of each teacher for each true class; none where samples weigh alike."""
    names = run.evaluation.get("classes", [])
    found = mean_by_class(run)
    if not found:
        return None
    classes = list(range(len(next(iter(found.values())))))
    spread = {c: _spread([each[c] for each in found.values()]) for c in classes}
    shown = sorted(sorted(classes, key=lambda c: -spread[c])[:CLASSES])
    labels = [text(names[c] if c < len(names) else c, most=16) for c in shown]
    cells = {teacher: [each[c] for c in shown] for teacher, each in found.items()}
    most = max((value for each in cells.values() for value in each if value is not None), default=1.0) or 1.0
    few = len(shown) <= 12
    trace: Trace = {
        "type": "heatmap",
        "x": list(range(len(shown))),
        "y": list(range(len(cells))),
        "z": [[None if value is None else value / most for value in each] for each in cells.values()],
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "text": [["" if value is None else weight(value) for value in each] for each in cells.values()],
        "texttemplate": "%{text}" if few else "",
        "customdata": [
            [f"{text(teacher)}, true {label}: {weight(value)}" for label, value in zip(labels, each, strict=True)]
            for teacher, each in cells.items()
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    caption = "Mean over training, summed over a teacher's paths: whom the student listened to about which class."
    if len(shown) < len(classes):
        caption += f" Of {len(classes)} classes, the {len(shown)} on which the teachers differ most."
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "automargin": True}
    return figure(
        "class-weights", "Weights of the teachers by true class", caption, [trace], wide=True,
        height=130 + 34 * len(cells),
        xaxis={"tickvals": list(range(len(shown))), "ticktext": labels, **axis},
        yaxis={"tickvals": list(range(len(cells))), "ticktext": [text(t, most=24) for t in cells],
               "autorange": "reversed", **axis},
    )  # fmt: skip


def mean_by_class(run: Run) -> dict[str, list[float | None]]:
    """Teacher -> its mean weight for each class over the student's (first) stage, summed over its paths."""
    sums: dict[str, list[float]] = {}
    samples: list[float] = []
    for line in run.by_class:
        if line.get("stage") != "student":
            continue
        counts = [finite(count) or 0.0 for count in line["samples"]]
        samples = [a + b for a, b in zip(samples or [0.0] * len(counts), counts, strict=True)]
        for row, means in line["weights"].items():
            teacher = Run.split(row)[1]
            if teacher is not None:
                old = sums.setdefault(teacher, [0.0] * len(counts))
                sums[teacher] = [a + (finite(b) or 0.0) * count for a, b, count in zip(old, means, counts, strict=True)]
    return {
        teacher: [total / count if count else None for total, count in zip(each, samples, strict=True)]
        for teacher, each in sums.items()
    }


def _spread(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else -math.inf
