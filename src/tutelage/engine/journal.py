"""What grows while a run goes on: metrics.jsonl and run.log."""

import json
import os
import pathlib
import sys
from typing import Any

from . import processes


class Journal:
    """metrics.jsonl and run.log: files that only grow, and are cut back on resume.

    Of several processes the first alone writes and speaks.

    Args:
        folder: Where they are.
        title: What the progress bar says before the name of a stage.
    """

    def __init__(self, folder: pathlib.Path, title: str = "") -> None:
        self.title = title
        self.metrics = folder / "metrics.jsonl"
        self.log = folder / "run.log"

    def write(self, line: dict[str, Any]) -> None:
        """Append a line of metrics."""
        if not processes.first():
            return
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def say(self, text: str) -> None:
        """Append a line to run.log and show it to people."""
        if not processes.first():
            return
        with self.log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def sizes(self) -> dict[str, int]:
        """Where each file ends now."""
        return {path.name: path.stat().st_size if path.exists() else 0 for path in (self.metrics, self.log)}

    def cut(self, sizes: dict[str, int]) -> None:
        """Drop what was written after a checkpoint."""
        if not processes.first():
            return
        for path in (self.metrics, self.log):
            if path.exists() and path.stat().st_size > sizes.get(path.name, 0):
                os.truncate(path, sizes.get(path.name, 0))
