"""What people are told on standard error: lines, teachers' scores, what was paired."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from tutelage.engine import processes

if TYPE_CHECKING:
    from .prepare import Prepared


def say(text: str) -> None:
    """A line for people, on standard error; of several processes that of the first."""
    if processes.first():
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def show_notes(role: str, model: nn.Module) -> None:
    """What was done to weights on the way: wrappers and prefixes removed, a classifier kept."""
    for note in model.__dict__.get("origin", {}).get("notes", ()):
        say(f"  {role}: {note}")


def show_teachers(prepared: "Prepared") -> None:
    """The teachers' scores on the selection split, and what should be known about them."""
    from tutelage.models import parameters

    for name, found in prepared.examined.items():
        millions = parameters(prepared.teachers[name]) / 1e6
        score = f"{prepared.task.metric} {found.validation:.4f} on the selection split"
        say(f"  teacher {name}: {score}, {millions:.2f} M parameters")
        for note in found.notes:
            say(f"    {note}")
    if prepared.examined and any("were cut from the training set" in note for note in prepared.splits.notes):
        say(
            "  (that split was cut from the training set: a teacher that was trained on all of it scores too well here)"
        )


def show_pairing(prepared: "Prepared") -> None:
    """The table of paths, taps and connectors."""
    from rich.console import Console
    from rich.table import Table

    if not prepared.pairing or not processes.first():
        return
    table = Table(title="paths", title_justify="left", box=None, pad_edge=False)
    for column in ("path", "loss", "student", "connector", "teacher", "its tap"):
        table.add_column(column)
    for row in prepared.pairing:
        sides = [f"{row[side]} {_size(row[side + '_shape'])}".strip() for side in ("student", "teacher")]
        table.add_row(row["path"], row["loss"], sides[0], row["connector"], row["teacher_name"], sides[1])
    Console(stderr=True, width=None if sys.stderr.isatty() else 150).print(table)


def _size(shape: Sequence[int] | None) -> str:
    return "x".join(map(str, shape)) if shape else ""
