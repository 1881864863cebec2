"""Report: one self-contained HTML file from one run or several."""

import pathlib
from collections.abc import Sequence

from tutelage.report import write


def report(runs: Sequence[str | pathlib.Path], *, out: str | pathlib.Path | None = None) -> pathlib.Path:
    """Write the report of a run, or of several side by side.

    Args:
        runs: Run folders.
        out: The file; if None, ``report.html`` in the run folder, or ``comparison.html`` beside the first of several.

    Returns:
        The file.
    """
    return write([pathlib.Path(run) for run in runs], None if out is None else pathlib.Path(out))
