"""Figures over time, from ``metrics.jsonl``: losses, weights and the validation metric."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .by_class import class_weights
from .figures import BASELINE, NEUTRAL, OTHERS, STUDENT, Figure, Trace, figure, finite, line, thin
from .read import Json, Run
from .units import Metric


def curves(run: Run) -> list[Figure]:
    """The figures over time for which something was logged."""
    found = (validation([run]), task_loss(run), path_losses(run), path_weights(run), teacher_weights(run))
    drawn = [one for one in found if one is not None]
    if len(drawn) % 2:  # the page sets two beside each other
        drawn[0] = replace(drawn[0], wide=True)
    by_class = class_weights(run)
    return drawn if by_class is None else [*drawn, by_class]


def validation(runs: Sequence[Run]) -> Figure | None:
    """The validation metric over epochs: of student and baseline of one run, or of several runs."""
    metric = Metric(runs[0].metric)
    traces: list[Trace] = []
    for number, run in enumerate(runs):
        stages = run.stages("validation")
        for stage, lines in stages.items():
            role = Run.role(stage)
            traces += line(
                role if len(runs) == 1 else f"{run.name}: {role}",
                _column(lines, "epoch"),
                [finite(y, metric.scale) for y in _column(lines, "validation")],
                _stage_colour(stage, list(stages)) if len(runs) == 1 else OTHERS[number % len(OTHERS)],
                dash="dot" if role == "baseline" and len(runs) > 1 else "solid",
                again=stage != role,
            )
    if not traces:
        return None
    caption = "On the validation split, which also chose the best epoch; the test split has no part in it."
    if any("opacity" in trace for trace in traces):
        caption += " Faint lines are further seeds."
    title = f"Validation {metric.name}"
    return figure("validation", title, caption, traces, x="epoch", y=metric.axis, wide=len(runs) > 1)


def task_loss(run: Run) -> Figure | None:
    """The loss against the labels, of student and baseline, while they train."""
    stages = run.stages("train")
    traces: list[Trace] = []
    for stage, lines in stages.items():
        x, y = thin(_column(lines, "step"), _column(lines, "task_loss"))
        traces += line(Run.role(stage), x, y, _stage_colour(stage, list(stages)), again=stage != Run.role(stage))
    if not traces:
        return None
    caption = "Against the labels, on training batches, before any weight."
    if run.taught:
        caption += " A student that also listens to teachers may stay above the baseline here."
    return figure("task-loss", "Task loss in training", caption, traces, x="step", y="loss")


def path_losses(run: Run) -> Figure | None:
    """Each row's raw loss over the steps of the student's stage."""
    if not run.taught:  # the figure of the task loss says it all
        return None
    lines = run.lessons
    traces: list[Trace] = []
    values: list[float] = []
    for number, row in enumerate(run.rows):
        x, y = thin(_column(lines, "step"), [_entry(entry, "losses", row) for entry in lines])
        values += [value for value in y if value is not None]
        traces += line(row, x, y, _row_colour(row, number))
    if not traces:
        return None
    log = min(values) > 0 and max(values) / min(values) > 20
    caption = "Before any weight: one line per path and teacher." + (" The axis is logarithmic." if log else "")
    kind = "log" if log else "linear"
    return figure("path-losses", "Raw loss of each path", caption, traces, x="step", y="loss", yaxis_type=kind)


def path_weights(run: Run) -> Figure | None:
    """The weight of each path over the steps, summed over its teachers."""
    caption = "Mean over the batch, summed over a path's teachers: how hard each path pulls."
    return _weights(run, "path-weights", "Weights of the paths", lambda row: Run.split(row)[0], caption)


def teacher_weights(run: Run) -> Figure | None:
    """The weight of each teacher over the steps, summed over its paths; none with a single teacher."""
    if len({Run.split(row)[1] for row in run.rows} - {None}) < 2:
        return None
    caption = "Mean over the batch, summed over a teacher's paths: how much each teacher is listened to."
    return _weights(run, "teacher-weights", "Weights of the teachers", lambda row: Run.split(row)[1], caption)


def _weights(run: Run, name: str, title: str, member: Callable[[str], str | None], caption: str) -> Figure | None:
    lines = [entry for entry in run.lessons if entry.get("weights")] if run.taught else []
    groups: dict[str, list[str]] = {}
    for row in run.rows:
        key = member(row)
        if key is not None:
            groups.setdefault(key, []).append(row)
    traces: list[Trace] = []
    for number, (group, members) in enumerate(groups.items()):
        x, y = thin(_column(lines, "step"), [_sum(entry, members) for entry in lines])
        traces += line(group, x, y, _row_colour(group, number))
    if not traces:
        return None
    return figure(name, title, caption, traces, x="step", y="weight", yaxis_rangemode="tozero")


def _sum(entry: Json, rows: Sequence[str]) -> float | None:
    known = [weight for row in rows if (weight := _entry(entry, "weights", row)) is not None]
    return sum(known) if known else None


def _column(lines: Sequence[Json], key: str) -> list[Any]:
    return [finite(entry.get(key)) for entry in lines]


def _entry(entry: Json, key: str, row: str) -> float | None:
    return finite(entry.get(key, {}).get(row))


def _stage_colour(stage: str, stages: Sequence[str]) -> str:
    others = [other for other in stages if Run.role(other) not in ("student", "baseline")]
    known = {"student": STUDENT, "baseline": BASELINE}.get(Run.role(stage))
    return known or OTHERS[others.index(stage) % len(OTHERS)]


def _row_colour(row: str, number: int) -> str:
    return NEUTRAL if row == "base" else OTHERS[number % len(OTHERS)]
