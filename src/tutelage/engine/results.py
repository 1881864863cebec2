"""What a run leaves for people and programs: result.json, evaluation.json and evaluation.safetensors."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import statistics
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
        settle(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def settle(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Wait until a file is on the disk, and move it to its place: a power cut leaves the old one or the new one."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def mean_weights(metrics: pathlib.Path, stage: str) -> tuple[dict[str, float], dict[str, float]]:
    """Mean weight of each teacher and of each path over a stage, from metrics.jsonl."""
    teachers, paths = defaultdict(list), defaultdict(list)
    for row, weight in _weights(metrics, stage):
        path, _, teacher = row.partition("/")
        paths[path].append(weight)
        if teacher:
            teachers[teacher].append(weight)
    return _means(teachers), _means(paths)


def row_weights(metrics: pathlib.Path, stage: str) -> dict[str, float]:
    """Mean weight of each row over a stage, from metrics.jsonl."""
    rows = defaultdict(list)
    for row, weight in _weights(metrics, stage):
        rows[row].append(weight)
    return _means(rows)


def _weights(metrics: pathlib.Path, stage: str) -> Iterator[tuple[str, float]]:
    for line in read_lines(metrics):
        if line.get("kind") == "train" and line["stage"] == stage:
            yield from line["weights"].items()


def hardly_heard(rows: Mapping[str, float]) -> list[str]:
    """A note for each teacher with less than half of an equal share, in the median of the paths it shares with others.

    Weights of different paths are in different units, so that sums over paths would say little.

    Example:
        >>> hardly_heard({"kl/big": 2.0, "kl/odd": 0.1, "deep/big": 50.0, "deep/odd": 9.0, "deep2/odd": 3.0})
        ['teacher odd was hardly heard: in the median of its paths it had 10% of the weight, an equal share is 50%.']
    """
    paths: dict[str, dict[str, float]] = defaultdict(dict)
    for row, weight in rows.items():
        path, _, teacher = row.partition("/")
        if teacher:
            paths[path][teacher] = weight
    shares: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in paths.values():
        total = sum(each.values())
        if len(each) > 1 and total > 0:
            for teacher, weight in each.items():
                shares[teacher].append((weight / total, 1 / len(each)))
    return [
        f"teacher {name} was hardly heard: in the median of its paths it had {share:.0%} of the weight, "
        f"an equal share is {equal:.0%}."
        for name, found in shares.items()
        for share, equal in [[statistics.median(column) for column in zip(*found, strict=True)]]
        if share < equal / 2
    ]


def far_behind(validation: Mapping[str, float]) -> list[str]:
    """A note for each teacher whose metric, where more is better, is less than three quarters of the best teacher's.

    Example:
        >>> far_behind({"big": 0.9, "wide": 0.8, "x": 0.55})
        ['teacher x is far behind: 0.5500 on the selection split, big has 0.9000. Is it given what it was trained on?']
    """
    best = max(validation, key=validation.__getitem__, default=None)
    return [
        f"teacher {name} is far behind: {value:.4f} on the selection split, {best} has {validation[best]:.4f}. "
        "Is it given what it was trained on?"
        for name, value in validation.items()
        if best is not None and value < 0.75 * validation[best]
    ]


def notes_of(metrics: pathlib.Path, stage: str) -> list[str]:
    """Who was hardly heard in a stage, and what its weighting wanted people to know, from metrics.jsonl."""
    told = [line for line in read_lines(metrics) if line.get("kind") == "note" and line["stage"] == stage]
    return [*hardly_heard(row_weights(metrics, stage)), *(f"{line['text']}." for line in told)]


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
