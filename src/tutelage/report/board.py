"""The page of a bench: which method reached what, and how sure the differences are."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutelage.errors import MissingExtra, RunError

from . import tables
from .curves import validation
from .figures import NEUTRAL, OTHERS, Figure, Trace, figure, text
from .page import fill, words, write_page
from .read import read
from .tables import Table
from .units import Metric, seconds, weight

BOARD, PAGE = "bench.json", "bench.html"
SCHEMA = 1
CURVES = 8
"""Curves of at most so many methods are drawn: there are no more colours."""

_COLOURS = {
    "better": OTHERS[0], "helps": OTHERS[0], "worse": OTHERS[2], "harms": OTHERS[2], "not resolved": NEUTRAL,
}  # fmt: skip

Content = Mapping[str, Any]


def is_bench(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of `tutelage bench`."""
    return (pathlib.Path(folder) / BOARD).is_file()


def write_bench(folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Write the page of a bench, finished or not.

    Args:
        folder: Its folder, with ``bench.json``.
        out: The file; without it ``bench.html`` in the folder.

    Returns:
        The file.

    Raises:
        RunError: ``bench.json`` is damaged, or of another version.
        MissingExtra: plotly or jinja2 is not installed.
    """
    folder = pathlib.Path(folder)
    try:
        content = json.loads((folder / BOARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"expected JSON in '{folder / BOARD}', found {error}. Run the bench again.") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise RunError(
            f"expected schema {SCHEMA} in '{folder / BOARD}': it was written by another version of tutelage."
        )
    try:
        page = render_bench(content, folder)
    except ImportError as error:
        raise MissingExtra(f"a report needs {error.name}: pip install 'tutelage[train]'") from error
    file = pathlib.Path(out) if out is not None else folder / PAGE
    write_page(file, page)
    return file


def render_bench(content: Content, folder: pathlib.Path) -> str:
    """The page as text; curves are read from the folder's runs."""
    drawn = (differences(content), effects(content), _curves(content, folder))
    return fill(
        "bench.html.jinja",
        title=f"Bench {folder.resolve().name}",
        sentence=_sentence(content),
        notes=_notes(content),
        leaderboard=leaderboard_table(content),
        figures=[one for one in drawn if one is not None],
        left_out=left_out_table(content),
        weights=weights_table(content),
        refused=_refused(content),
        failed=failed_table(content),
        said=notes_table(content),
        facts=_facts(content),
    )


def leaderboard_table(content: Content) -> Table:
    """Methods, the best first, with their paired differences."""
    metric = Metric(content["metric"])
    others = list(dict.fromkeys(name for row in content["leaderboard"] for name in row["against"]))
    others.sort(key=lambda name: name == content["against"])
    head = ["method", f"test {metric.name}"]
    for other in others:
        head += [f"minus {other}", "95% interval", "verdict"]
    rows = []
    for row in content["leaderboard"]:
        spread = "" if row["spread"] is None else f" ± {row['spread'] * metric.scale:.2f}"
        cells = [row["method"], metric.value(row["test"]) + spread]
        for other in others:
            cells += _compared(row["against"].get(other), metric)
        cells += [metric.value(row["validation"]), str(len(row["seeds"])), seconds(row["seconds"])]
        rows.append(tuple(cells))
    several = len(content["seeds"]) > 1
    note = f"Mean over {len(content['seeds'])} seeds, ± standard deviation. " if several else ""
    note += "Differences are paired over test samples" + (" and seeds. " if several else ". ")
    compared = [told["seeds"] for row in content["leaderboard"] for told in row["against"].values()]
    if not several or any(len(seeds) == 1 for seeds in compared):
        note += "Over one seed a verdict asks for more than an interval without 0. "
    if any(len(row["seeds"]) < len(content["seeds"]) for row in content["leaderboard"]):
        note += "Methods that lack a seed stand last: their means are over fewer. "
    note += "Each interval is for one comparison alone: of twenty methods that change nothing, one may seem resolved."
    return Table("leaderboard", "Leaderboard", (*head, "validation", "seeds", "time a run"), tuple(rows), note)


def left_out_table(content: Content) -> Table | None:
    """What each teacher and each path brings to the first method."""
    if not content["leave_one_out"]:
        return None
    return tables.effects(content["leave_one_out"], Metric(content["metric"]), content["whole"])


def weights_table(content: Content) -> Table | None:
    """Mean weights of each method."""
    teachers = list(content["teachers"])
    rows = []
    for row in content["leaderboard"]:
        if row["paths"] or row["teachers"].keys() & set(teachers):
            paths = ", ".join(f"{name} {weight(value)}" for name, value in row["paths"].items())
            rows.append((row["method"], *(weight(row["teachers"].get(name)) for name in teachers), paths))
    if not rows:
        return None
    head = ("method", *(f"teacher {name}" for name in teachers), "paths")
    note = "Mean over the logged steps and seeds: of a teacher over its paths, of a path over its teachers."
    return Table("weights", "Mean weights", head, tuple(rows), note)


def failed_table(content: Content) -> Table | None:
    """Runs that failed, with the reason."""
    rows = tuple((run["method"], str(run["seed"]), run["reason"]) for run in content.get("failed", ()))
    return Table("failed", "Runs that failed", ("method", "seed", "reason"), rows, words=True) if rows else None


def notes_table(content: Content) -> Table | None:
    """What the runs wanted people to know: who was switched off, who was hardly heard."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for note in content.get("notes", ()):
        seeds.setdefault((note["method"], note["text"]), []).append(str(note["seed"]))
    rows = tuple((method, ", ".join(found), text) for (method, text), found in seeds.items())
    return Table("notes", "What the runs said", ("method", "seeds", "note"), rows, words=True) if rows else None


def differences(content: Content) -> Figure | None:
    """Each method's difference to the reference, with its interval."""
    other = content["against"]
    rows = [(row["method"], row["against"][other]) for row in content["leaderboard"] if other in row["against"]]
    metric = Metric(content["metric"])
    caption = f"Test {metric.name} minus that of {other}, 95% intervals; grey ones are not resolved."
    return _forest(f"Against {other}", "differences", rows, caption, metric)


def effects(content: Content, name: str = "effects") -> Figure | None:
    """The effect of each part that was left out."""
    rows = [(f"{row['kind']} {row['name']}", row) for row in content["leave_one_out"]]
    caption = "The whole method minus the method without the part, 95% intervals; above 0, the part helps."
    return _forest("What each part brings", name, rows, caption, Metric(content["metric"]))


def _forest(title: str, name: str, rows: Sequence[tuple[str, Content]], caption: str, metric: Metric) -> Figure | None:
    if not rows:
        return None
    traces: list[Trace] = []
    for verdict in dict.fromkeys(row["verdict"] for _, row in rows):
        here = [(at, row) for at, (_, row) in enumerate(rows) if row["verdict"] == verdict]
        deltas = [metric.scale * row["delta"] for _, row in here]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": verdict,
                "x": deltas,
                "y": [at for at, _ in here],
                "marker": {"color": _COLOURS.get(verdict, NEUTRAL), "size": 9},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [metric.scale * row["interval"][1] - d for d, (_, row) in zip(deltas, here, strict=True)],
                    "arrayminus": [
                        d - metric.scale * row["interval"][0] for d, (_, row) in zip(deltas, here, strict=True)
                    ],
                },
                "customdata": [text(rows[at][0]) for at, _ in here],
                "hovertemplate": "%{customdata}: %{x:+.2f}<extra>%{fullData.name}</extra>",
            }
        )
    ticks = {
        "tickvals": list(range(len(rows))),
        "ticktext": [text(label, most=40) for label, _ in rows],
        "range": [len(rows) - 0.5, -0.5],
        "automargin": True,
    }
    return figure(
        name, title, caption, traces, x=f"difference ({metric.step})" if metric.step else "difference",
        height=130 + 26 * len(rows), wide=True, yaxis=ticks, xaxis_zeroline=True, showlegend=True,
    )  # fmt: skip


def _curves(content: Content, folder: pathlib.Path) -> Figure | None:
    """Validation of the first seed of the best methods."""
    found = []
    for row in content["leaderboard"][:CURVES]:
        place = folder / content["folders"][row["method"]][0]
        if (place / "metrics.jsonl").is_file():
            found.append(replace(read(place), name=row["method"]))
    return validation(found) if len(found) > 1 else None


def _compared(told: Content | None, metric: Metric) -> list[str]:
    if told is None:
        return ["", "", ""]
    return [metric.difference(told["delta"]), metric.interval(told["interval"]), told["verdict"]]


def _sentence(content: Content) -> str:
    rows, other = content["leaderboard"], content["against"]
    metric = Metric(content["metric"])
    if not rows:
        return "No run has finished yet."
    best = rows[0]
    reached = f"{best['method']} is first with a test {metric.name} of {metric.value(best['test'])}"
    told = best["against"].get(other)
    if told is None:
        return f"{reached}."
    sure = "which is not resolved" if told["verdict"] == "not resolved" else f"{told['verdict']} than {other}"
    return f"{reached}: {metric.difference(told['delta'])} against {other}, {sure}."


def _notes(content: Content) -> list[str]:
    notes = []
    if not content["finished"]:
        notes.append(f"{content['runs_done']} of {content['runs']} runs are finished{_advice(content)}")
    if len(content["seeds"]) == 1:
        notes.append("One seed shows nothing of the spread between seeds: take three or more for a firm order.")
    notes.append(
        "All methods of a seed start from the same weights and see the same samples in the same order for as many "
        "steps; the best epoch is chosen on the validation split, and the test split is read once, at the end."
    )
    return notes


def _advice(content: Content) -> str:
    """What to do about the runs that are not finished."""
    failed = len(content.get("failed", ()))
    if not failed:
        return "; the same command goes on."
    if failed < content["runs"] - content["runs_done"]:
        return f", {failed} failed (below); the same command goes on."
    return f", {failed} failed (below): the same command tries {'it' if failed == 1 else 'them'} again, from the start."


def _refused(content: Content) -> Table | None:
    rows = tuple((name, reason) for name, reason in content["refused"].items())
    return Table("refused", "Methods that could not be built", ("method", "reason"), rows, words=True) if rows else None


def _facts(content: Content) -> dict[str, str]:
    metric = Metric(content["metric"])
    scored = [f"{name}: {metric.value(told['validation'])}" for name, told in content["teachers"].items()]
    return {
        "command": content["command"],
        "data": content["data"]["guess"],
        "fingerprint of the data": content["data"]["fingerprint"][:16],
        "teachers, on the validation split": "\n".join(scored) or "none",
        "seeds": ", ".join(map(str, content["seeds"])),
        "versions": words(content["versions"]),
        "hardware": words(content["hardware"]),
    }
