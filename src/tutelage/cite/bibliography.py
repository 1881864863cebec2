"""Entries of `references.bib`, and which parts they stand for."""

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from tutelage.recipe import catalogue
from tutelage.recipe.wires import SHORT

FILE = "references.bib"
FOLDERS = ("losses", "weighting", "connectors", "schemes")


@dataclass(frozen=True)
class Citation:
    """One entry.

    Args:
        key: Its key.
        bibtex: The entry as it is printed.
        eprint: Its number at arXiv; None without one.
        parts: Names of the parts it stands for; of a recipe, those that are used.
    """

    key: str
    bibtex: str
    eprint: str | None
    parts: tuple[str, ...]


@cache
def read_entries() -> tuple[Citation, ...]:
    """All entries, in the order of the file.

    Example:
        >>> next(entry.key for entry in read_entries() if "dist" in entry.parts)
        'huang2022knowledge'
    """
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return tuple(_entry(found[0]) for found in re.finditer(r"^@\w+\{.*?^\}$", text, re.MULTILINE | re.DOTALL))


def cite(recipe: Mapping[str, Any]) -> tuple[list[Citation], list[str]]:
    """What a recipe's losses, weightings, connectors and scheme were taken from.

    Args:
        recipe: Plain data, as in a recipe's file: of a run, or as a user wrote it.

    Returns:
        The entries with the parts that are used, in the order of the file; and the parts that come from elsewhere or
        name no source.

    Example:
        >>> found, unknown = cite({"paths": ["dist"], "weighting": {"scale": "adaptive", "gates": ["mylab:gate"]}})
        >>> [entry.key for entry in found], unknown
        (['hinton2015distilling', 'huang2022knowledge', 'chennupati2021adaptive'], ['mylab:gate'])
    """
    used = list(dict.fromkeys(_used(recipe)))
    entries: list[Citation] = []
    for entry in read_entries():
        parts = tuple(part for part in used if stands_for(entry, part))
        entries += [replace(entry, parts=parts)] if parts else []
    known = {part for entry in entries for part in entry.parts}
    unknown = []
    for part in (part for part in used if part not in known):
        found = None if ":" in part or "." in part else from_docstring(part)
        if found is not None:
            entries.append(found)
        elif ":" in part:
            unknown.append(part)
    return entries, unknown


def stands_for(entry: Citation, part: str) -> bool:
    """Whether an entry is cited for a part; underscores and capitals do not count."""
    return _plain(part) in map(_plain, entry.parts)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def from_docstring(part: str) -> Citation | None:
    """The entry for a part without one of its own: by the number at arXiv that its docstring names first.

    Returns:
        An entry of the file with that number; else one made of the docstring; None where it names no source.
    """
    reference = reference_of(part)
    if not re.search(r"\b(19|20)\d\d\b", reference):
        return None
    number = re.search(r"arXiv:(\d{4}\.\d{4,5})", reference)
    for entry in read_entries():
        if number is not None and entry.eprint == number[1]:
            return replace(entry, parts=(part,))
    fields = [f"note = {{{reference}}}"] + (
        [f"eprint = {{{number[1]}}}", "archiveprefix = {arXiv}"] if number is not None else []
    )
    key = re.sub(r"\W", "", part)
    return Citation(key, f"@misc{{{key},\n  " + ",\n  ".join(fields) + ",\n}", number and number[1], (part,))


def reference_of(part: str) -> str:
    """The first sentence of the section Reference in a part's docstring, on one line; empty without one.

    Example:
        >>> reference_of("dist")
        'Huang et al. 2022, arXiv:2205.10536, sec. 4'
    """
    for folder in FOLDERS:
        names = catalogue.names(folder)
        if part in names:
            doc = inspect.getdoc(getattr(importlib.import_module(f"tutelage.{folder}"), names[part])) or ""
            section = re.search(r"^Reference:\n((?:[ ]{4}.*\n?|\n)+)", doc, re.MULTILINE)
            text = " ".join(section[1].split()) if section else ""
            return re.split(r"\. (?=[A-Z`])", text)[0].rstrip(".")
    return ""


def _entry(text: str) -> Citation:
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", text, re.MULTILINE))
    parts = tuple(part.strip() for part in fields.get("parts", "").split(",") if part.strip())
    printed = re.sub(r"^  parts = .*\n", "", text, flags=re.MULTILINE)
    key = re.match(r"@\w+\{([^,]+),", text)
    assert key is not None, f"{FILE}: an entry without a key"
    return Citation(key[1], printed, fields.get("eprint"), parts)


def _used(recipe: Mapping[str, Any]) -> Iterable[str]:
    """Names of the parts of a recipe, and ``NAME.OPTION`` for each option that is set."""
    paths = recipe.get("paths", ["logits", "attention"]) if recipe.get("teachers", True) else []
    if isinstance(paths, Mapping):
        for path in paths.values():
            yield from _named(path.get("loss"))
            connectors = path.get("connector")
            for parts in connectors.values() if isinstance(connectors, Mapping) else [connectors]:
                for part in parts if isinstance(parts, list) else [parts]:
                    yield from _named(None if part == "auto" else part)
    else:
        for short in paths:
            yield from _named(SHORT.get(short, short))
    if not recipe.get("teachers", True):
        return
    weighting = recipe.get("weighting", "auto")
    if isinstance(weighting, Mapping) and "use" not in weighting:
        yield from _named(weighting.get("scale"))
        for gate in weighting.get("gates") or ():
            yield from _named(gate)
    elif not (isinstance(weighting, Mapping) and weighting.get("share", "trust") != "trust"):
        yield from _named(weighting)
    yield from _named(recipe.get("scheme", "offline"))


def _named(part: Any) -> Iterable[str]:
    if isinstance(part, str):
        part = {"use": part}
    if isinstance(part, Mapping) and part.get("use"):
        name = str(part["use"])
        name = name if ":" in name else name.lower()
        yield name
        for option, value in part.items():
            if option == "rule" or isinstance(value, Mapping):  # a part within a part
                yield from _named(value)
            elif option != "use" and value:
                yield f"{name}.{option}"
