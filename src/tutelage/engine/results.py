"""What a run leaves for people and programs: result.json, evaluation.json and evaluation.safetensors."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON beside its place and move it there."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Write text beside its place and move it there."""
    with beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(path: pathlib.Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors beside its place and move it there."""
    from safetensors.torch import save

    with beside(path) as temporary:
        temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def share(source: pathlib.Path, target: pathlib.Path) -> None:
    """Let a file appear in a second place: as a second name where the disk knows such names, else as a copy."""
    if target.exists() and target.samefile(source):
        return
    with beside(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


@contextlib.contextmanager
def beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name beside the file's, moved to it when all went well and removed when not."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def mean_weights(metrics: pathlib.Path, stage: str) -> tuple[dict[str, float], dict[str, float]]:
    """Mean weight of each teacher and of each path over a stage, from metrics.jsonl."""
    teachers, paths = defaultdict(list), defaultdict(list)
    for line in read_lines(metrics):
        if line.get("kind") == "train" and line["stage"] == stage:
            for row, weight in line["weights"].items():
                path, _, teacher = row.partition("/")
                paths[path].append(weight)
                if teacher:
                    teachers[teacher].append(weight)
    return _means(teachers), _means(paths)


def hardly_heard(weights: Mapping[str, float | None]) -> list[str]:
    """A note for each teacher with less than a quarter of the mean weight of all.

    Example:
        >>> hardly_heard({"big": 2.0, "wide": 1.6, "odd": 0.1})
        ['teacher odd was hardly heard: its mean weight was 0.10, that of all teachers 1.23.']
    """
    known = {name: weight for name, weight in weights.items() if weight is not None}
    mean = sum(known.values()) / max(len(known), 1)
    return [
        f"teacher {name} was hardly heard: its mean weight was {weight:.2f}, that of all teachers {mean:.2f}."
        for name, weight in known.items()
        if weight < mean / 4
    ]


def notes_of(metrics: pathlib.Path, stage: str) -> list[str]:
    """What a stage's weighting wanted people to know, from metrics.jsonl."""
    return [f"{line['text']}." for line in read_lines(metrics) if line.get("kind") == "note" and line["stage"] == stage]


def _means(lists: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in lists.items()}


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The objects of a file that grows; a torn last line is dropped."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
