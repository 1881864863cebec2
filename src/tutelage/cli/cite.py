"""Cite: BibTeX of the methods that a recipe, a run or a bench used."""

import pathlib
from typing import Any

import tutelage
from tutelage.cite import Citation
from tutelage.cite import cite as cited
from tutelage.errors import InputError
from tutelage.recipe import schema


def cite(source: str | pathlib.Path) -> dict[str, Any]:
    """What was used, with its references.

    Args:
        source: A recipe, a run folder, or a folder of `tutelage bench`: then all its runs.

    Returns:
        ``{"entries": [{"key", "parts", "eprint", "bibtex"}], "unknown": [part], "software": bibtex}``; ``unknown``
        holds parts that are not of this library.

    Raises:
        InputError: There is no such recipe or run.
    """
    source = pathlib.Path(source)
    found: dict[str, Citation] = {}
    unknown: dict[str, None] = {}
    for recipe in _recipes(source):
        raw = schema.read(recipe)
        if raw.get("teachers") is None and (recipe.parent / "metrics.jsonl").exists():
            raw["teachers"] = {}  # a resolved recipe leaves out what is empty: plain training
        entries, others = cited(raw)
        unknown |= dict.fromkeys(others)
        for entry in entries:
            parts = found[entry.key].parts if entry.key in found else ()
            merged = tuple(dict.fromkeys((*parts, *entry.parts)))
            found[entry.key] = Citation(entry.key, entry.bibtex, entry.eprint, merged)
    return {
        "entries": [
            {"key": key, "parts": list(entry.parts), "eprint": entry.eprint, "bibtex": entry.bibtex}
            for key, entry in found.items()
        ],
        "unknown": list(unknown),
        "software": f"@software{{tutelage,\n  title = {{tutelage}},\n  version = {{{tutelage.__version__}}},\n}}",
    }


def _recipes(source: pathlib.Path) -> list[pathlib.Path]:
    if source.is_file():
        return [source]
    if (source / "recipe.yaml").is_file():
        return [source / "recipe.yaml"]
    runs = sorted((source / "runs").glob("*/recipe.yaml"))
    if not runs:
        raise InputError(
            f"cite: expected a recipe (YAML), a run folder or a folder of tutelage bench, found none at {source}."
        )
    return runs
