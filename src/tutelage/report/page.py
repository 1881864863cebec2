"""Puts the parts of one or several runs on one page and writes it."""

import json
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from tutelage.errors import MissingExtra, RunError

from . import tables
from .curves import curves, validation
from .evaluated import evaluated
from .figures import Figure
from .pictures import Picture, colour_key, pictures
from .read import Run, read
from .summary import Summary, summarise
from .tables import Table


@dataclass(frozen=True)
class Sections:
    """Everything the page shows of one run."""

    key: str
    run: Run
    summary: Summary
    models: Table | None
    seeds: Table | None
    curves: tuple[Figure, ...]
    weights: Table | None
    left_out: Table | None
    evaluated: tuple[Figure, ...]
    mistakes: Table | None
    pictures: tuple[Picture, ...]
    colours: tuple[tuple[str, str], ...]
    pairing: Table | None
    cost: Table | None
    facts: Mapping[str, str]


def write(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Write one HTML page about one run, or comparing several; it needs no network and no other file.

    Args:
        runs: Run folders, finished or not.
        out: The file. Without it ``report.html`` in the run folder, or for several runs
            ``comparison.html`` beside the first.

    Returns:
        The file that was written.

    Raises:
        RunError: One of `runs` is no run folder, or is damaged.
        MissingExtra: plotly, jinja2 or pillow is not installed.
        ValueError: There is no run.
    """
    if not runs:
        raise ValueError("report: expected at least one run folder, found none.")
    found = _told_apart([read(run) for run in runs])
    folder = found[0].folder
    default = folder / "report.html" if len(found) == 1 else folder.resolve().parent / "comparison.html"
    file = pathlib.Path(out) if out is not None else default
    try:
        page = render(found)
    except ImportError as error:
        raise MissingExtra(f"a report needs {error.name}: pip install 'tutelage[train]'") from error
    write_page(file, page)
    return file


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
    several = len(runs) > 1
    return fill(
        "run.html.jinja",
        title="Comparison of runs" if several else f"Run {runs[0].name}",
        runs=[sections(run, f"run{number}") for number, run in enumerate(runs, start=1)],
        comparison=tables.comparison(runs) if several else None,
        overlay=validation(runs) if several else None,
    )


def fill(name: str, **values: Any) -> str:
    """A template of this folder with its values; style and scripts are put in."""
    import jinja2
    from plotly.offline import get_plotlyjs

    here = resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda file: here.joinpath(file).read_text(encoding="utf-8")),
    )
    page = environment.get_template(name).render(
        style=here.joinpath("page.css").read_text(encoding="utf-8"),
        script=here.joinpath("page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        **values,
    )
    return page.lstrip()


def sections(run: Run, key: str) -> Sections:
    """Everything the page shows of `run`; `key` tells its anchors from those of other runs."""
    return Sections(
        key=key,
        run=run,
        summary=summarise(run),
        models=tables.models(run),
        seeds=tables.seeds(run),
        curves=tuple(curves(run)),
        weights=tables.weights(run),
        left_out=tables.left_out(run),
        evaluated=tuple(evaluated(run)),
        mistakes=tables.mistakes(run),
        pictures=tuple(pictures(run)),
        colours=tuple(colour_key(run)),
        pairing=tables.pairing(run),
        cost=tables.cost(run),
        facts=_facts(run),
    )


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs whose folders have the same name go by their whole path."""
    names = [run.name for run in runs]
    return [replace(run, name=str(run.folder)) if names.count(run.name) > 1 else run for run in runs]


def _facts(run: Run) -> dict[str, str]:
    """The manifest as lines of text, without what the page says elsewhere."""
    elsewhere = ("macs_by", "notes")
    return {
        re.sub("_", " ", key): words(value) for key, value in run.manifest.items() if key not in elsewhere and value
    }


def words(value: Any) -> str:
    """A part of the manifest as lines of text."""
    if isinstance(value, Mapping):
        known = {key: part for key, part in value.items() if part not in ([], {}, None)}
        return "\n".join(f"{key}: {part if isinstance(part, str) else json.dumps(part)}" for key, part in known.items())
    if isinstance(value, list | tuple):
        plain = all(isinstance(part, int | float) for part in value)
        return (", " if plain else "\n").join(map(str, value))
    return str(value)


def write_page(file: pathlib.Path, page: str) -> None:
    """Write a page whole.

    Raises:
        RunError: It cannot be written there.
    """
    try:
        _replace(file, page)
    except OSError as error:
        raise RunError(
            f"{file}: expected to write the report here, found: {error.strerror or error}. Give --out another file, or "
            "make room."
        ) from error


def _replace(file: pathlib.Path, page: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(page)
        pathlib.Path(temporary).chmod(0o644)
        os.replace(temporary, file)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
