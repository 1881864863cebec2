"""The board of a bench: what is compared, what is known of it so far, and the table."""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tutelage.bench import Results, leaderboard
from tutelage.bench.leaderboard import left_out
from tutelage.bench.methods import PLAIN
from tutelage.bench.results import FAILED, FILE, is_scored
from tutelage.engine.results import write_json, write_tensors

from . import runfolder
from .entrants import Entrant
from .prepare import Prepared
from .show import say

REQUEST, BOARD = "request.json", "bench.json"
SCHEMA = 1


@dataclass(frozen=True)
class Board:
    """What is compared, and what is known so far.

    Args:
        folder: Where the results are.
        raw: The recipe that all share.
        asked: Methods, seeds and the like, as they were asked for.
        refused: Methods that cannot be built, with the reason.
        entrants: Methods that can.
    """

    folder: pathlib.Path
    raw: Mapping[str, Any]
    asked: Mapping[str, Any]
    refused: Mapping[str, str]
    entrants: tuple[Entrant, ...] = ()

    def of(self, entrants: Sequence[Entrant]) -> "Board":
        """The same with these entrants."""
        return replace(self, entrants=tuple(entrants))

    @property
    def seeds(self) -> list[int]:
        """The seeds of every method."""
        start = int((self.raw.get("train") or {}).get("seed", 0))
        return list(range(start, start + int(self.asked["seeds"] or self.raw.get("seeds") or 3)))

    @property
    def first(self) -> Prepared:
        """Any of the runs: what all share."""
        return self.entrants[0].prepared

    @property
    def data(self) -> str:
        """The fingerprint of the data."""
        return self.first.splits.fingerprint

    def found(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The finished runs, by method and seed."""
        return {pair: line for pair, line in self._lines(FILE).items() if is_scored(line)}

    def lost(self) -> list[tuple[str, int]]:
        """Runs of before whose scores are no numbers."""
        return [pair for pair, line in self._lines(FILE).items() if not is_scored(line)]

    def failed(self) -> dict[tuple[str, int], str]:
        """Why runs failed that have not been finished since, by method and seed."""
        done = self.found()
        return {pair: line["reason"] for pair, line in self._lines(FAILED).items() if pair not in done}

    def _lines(self, file: str) -> dict[tuple[str, int], dict[str, Any]]:
        keys = [(entrant.name, seed, entrant.key) for entrant in self.entrants for seed in self.seeds]
        return Results(self.folder, file).found(keys, self.data)

    def left(self) -> list[tuple[Entrant, int]]:
        """Runs to be done, seed by seed: after the first seed there is a whole table."""
        done = self.found()
        pairs = [(entrant, seed) for seed in self.seeds for entrant in self.entrants]
        return [(entrant, seed) for entrant, seed in pairs if (entrant.name, seed) not in done]

    def begin(self) -> None:
        """Write down what was asked for, so that it can be gone on with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / REQUEST, {"schema": SCHEMA, "recipe": self.raw, **self.asked})
        if self.groups is not None:
            write_tensors(self.folder / f"targets-{self.data[:8]}.safetensors", {"target": self.groups})

    @property
    def groups(self) -> torch.Tensor | None:
        """The class of each test sample that has one."""
        test = self.first.splits.test
        return None if test.mapped or not test.classes else test.labels[test.labelled]

    def run_folder(self, entrant: Entrant, seed: int) -> pathlib.Path:
        """Where one run is; another recipe under the same name has another folder."""
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in entrant.name)
        return self.folder / "runs" / f"{name}-seed{seed}-{entrant.key[:8]}"

    def content(self) -> dict[str, Any]:
        """What bench.json holds."""
        task, found = self.first.task, self.found()
        options: dict[str, Any] = {"higher_is_better": task.higher_is_better}
        test = self.first.splits.test
        blocks = None if test.blocks is None else test.blocks[test.labelled]
        options |= {"groups": self.groups, "blocks": blocks, "parts": task.parts}
        own = [entrant.name for entrant in self.entrants if entrant.part is None]
        parts = [(*entrant.part, entrant.name) for entrant in self.entrants if entrant.part is not None]
        rows = leaderboard(found, own, against=(PLAIN, self.asked["against"]), **options)
        whole = self.whole
        runs = {
            entrant.name: [str(self.run_folder(entrant, seed).relative_to(self.folder)) for seed in self.seeds]
            for entrant in self.entrants
        }
        return {
            "schema": SCHEMA,
            "task": task.name,
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "finished": len(found) == len(self.entrants) * len(self.seeds),
            "runs_done": len(found),
            "runs": len(self.entrants) * len(self.seeds),
            "failed": [
                {"method": method, "seed": seed, "reason": reason} for (method, seed), reason in self.failed().items()
            ],
            "seeds": self.seeds,
            "against": self.asked["against"],
            "leaderboard": rows,
            "leave_one_out": left_out(found, whole, parts, **options) if whole is not None else [],
            "whole": whole if parts else None,
            "refused": dict(self.refused),
            "notes": [
                {"method": method, "seed": seed, "text": text}
                for (method, seed), line in found.items()
                for text in line.get("notes", ())
            ],
            "teachers": {name: {"validation": told.validation} for name, told in self.examined.items()},
            "data": {"guess": self.first.splits.guess, "fingerprint": self.data},
            "folders": runs,
            "command": " ".join(runfolder.argv()),
            "versions": runfolder.versions(),
            "hardware": runfolder.hardware(),
        }

    @property
    def whole(self) -> str | None:
        """The method of which parts are left out."""
        return next((e.name for e in self.entrants if e.part is None and not e.method.alone), None)

    @property
    def examined(self) -> Mapping[str, Any]:
        """What is known of all teachers."""
        return {name: told for entrant in self.entrants for name, told in entrant.prepared.examined.items()}

    def save(self) -> dict[str, Any]:
        """Write bench.json anew."""
        content = self.content()
        write_json(self.folder / BOARD, content)
        return content

    def finish(self) -> dict[str, Any]:
        """The table, and the page."""
        from tutelage.report import write_bench

        content = self.save()
        if content["leave_one_out"]:
            first = next(entrant for entrant in self.entrants if entrant.name == content["whole"])
            told = {"metric": content["metric"], "method": content["whole"], "parts": content["leave_one_out"]}
            for folder in (self.run_folder(first, seed) for seed in self.seeds):
                if folder.is_dir():
                    write_json(folder / "leave_one_out.json", told)
        show_leaderboard(content)
        say(f"report: {write_bench(self.folder)}")
        return content


def show_leaderboard(content: Mapping[str, Any]) -> None:
    """The leaderboard in the terminal, on standard error."""
    from rich.console import Console
    from rich.table import Table

    from tutelage.report.board import leaderboard_table, left_out_table

    console = Console(stderr=True, width=None if sys.stderr.isatty() else 150)
    for told in (leaderboard_table(content), left_out_table(content)):
        if told is None:
            continue
        table = Table(title=told.title, title_justify="left", box=None, pad_edge=False)
        for column in told.head:
            table.add_column(column, justify="left" if column in ("method", "without") else "right")
        for row in told.rows:
            table.add_row(*row)
        console.print(table)
        say(told.note)
