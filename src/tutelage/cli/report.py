"""Report: one self-contained HTML file from one run or several."""

import pathlib
from collections.abc import Sequence

from tutelage.errors import RunError
from tutelage.report import is_bench, write, write_bench


def report(runs: Sequence[str | pathlib.Path], *, out: str | pathlib.Path | None = None) -> pathlib.Path:
    """Write the report of a run, of several side by side, or of a bench.

    Args:
        runs: Run folders; or one folder of `tutelage bench`.
        out: The file; if None, ``report.html`` in the run folder, ``comparison.html`` beside the first of several, or
            ``bench.html`` in the folder of a bench.

    Returns:
        The file.
    """
    if any(map(is_bench, runs)):
        if len(runs) > 1:
            raise RunError("report: expected run folders, or one bench; found a bench among several. Give it alone.")
        return write_bench(runs[0], out)
    return write([pathlib.Path(run) for run in runs], None if out is None else pathlib.Path(out))
