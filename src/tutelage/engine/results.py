"""What a run leaves for people and programs: result.json, evaluation.json and evaluation.safetensors."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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


Lines = list[dict[str, Any]]


def mean_weights(metrics: pathlib.Path, *stages: str) -> tuple[dict[str, float], dict[str, float]]:
    """Mean weight of each teacher and of each path over a stage, or over one for each seed, from metrics.jsonl."""
    teachers, paths = defaultdict(list), defaultdict(list)
    for lines in _by_seed(metrics, stages).values():
        for row, weight in _row_weights(lines).items():
            path, _, teacher = row.partition("/")
            paths[path].append(weight)
            if teacher:
                teachers[teacher].append(weight)
    return _means(teachers), _means(paths)


def _by_seed(metrics: pathlib.Path, stages: Sequence[str]) -> dict[int, Lines]:
    """The lines of each stage under its seed."""
    lines = read_lines(metrics)
    found = [[line for line in lines if line.get("stage") == stage] for stage in stages]
    return {own[0]["seed"]: own for own in found if own}


def _row_weights(lines: Lines) -> dict[str, float]:
    """Mean weight of each row; a line counts with the steps it covers."""
    told = [(line.get("steps", 1), line["weights"]) for line in lines if line["kind"] == "train"]
    steps = sum(count for count, _ in told)
    rows: dict[str, float] = defaultdict(float)
    for count, weights in told:
        for row, weight in weights.items():
            rows[row] += count * weight
    return {row: total / steps for row, total in rows.items()}


def hardly_heard(seeds: Mapping[int, Mapping[str, float]]) -> dict[str, list[int]]:
    """A note for each teacher with less than half of an equal share, in the median of the paths it shares with others.

    Weights of different paths are in different units, so that sums over paths would say little.

    Args:
        seeds: Mean weight of each row, by seed.

    Returns:
        The seeds each note is of; the share it names is the mean over them.

    Example:
        >>> rows = {"kl/big": 2.0, "kl/odd": 0.1, "deep/big": 50.0, "deep/odd": 9.0, "deep2/odd": 3.0}
        >>> hardly_heard({0: rows})
        {'teacher odd was hardly heard: in the median of its paths it had 10% of the weight, an equal share is 50%.':
        [0]}
    """
    found: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for seed, rows in seeds.items():
        for teacher, (share, equal) in _shares(rows).items():
            if share < equal / 2:
                found[teacher][seed] = share, equal
    notes = {}
    for teacher, shares in found.items():
        share, equal = map(statistics.fmean, zip(*shares.values(), strict=True))
        text = f"teacher {teacher} was hardly heard: in the median of its paths it had {share:.0%} of the weight, "
        notes[f"{text}an equal share is {equal:.0%}."] = list(shares)
    return notes


def _shares(rows: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Each teacher's share of the weight and an equal share, in the median of the paths it shares with others."""
    paths: dict[str, dict[str, float]] = defaultdict(dict)
    for row, weight in rows.items():
        path, _, teacher = row.partition("/")
        if teacher:
            paths[path][teacher] = weight
    shares: dict[str, list[float]] = defaultdict(list)
    equal: dict[str, list[float]] = defaultdict(list)
    for each in paths.values():
        total = sum(each.values())
        if len(each) > 1 and total > 0:
            for teacher, weight in each.items():
                shares[teacher].append(weight / total)
                equal[teacher].append(1 / len(each))
    return {name: (statistics.median(found), statistics.median(equal[name])) for name, found in shares.items()}


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


def notes_of(metrics: pathlib.Path, *stages: str) -> list[str]:
    """Who was hardly heard in a stage, and what its weighting wanted people to know, from metrics.jsonl.

    Of several stages, one for each seed, a note begins with the seeds it is of.
    """
    by_seed = _by_seed(metrics, stages)
    notes = hardly_heard({seed: _row_weights(lines) for seed, lines in by_seed.items()})
    for seed, lines in by_seed.items():
        for text in dict.fromkeys(f"{line['text']}." for line in lines if line["kind"] == "note"):
            notes.setdefault(text, []).append(seed)
    return [text if len(stages) == 1 else f"{_told(seeds)}: {text}" for text, seeds in notes.items()]


def _told(seeds: Sequence[int]) -> str:
    """Seeds as a note names them.

    Example:
        >>> _told([3]), _told([0, 1])
        ('seed 3', 'seeds 0, 1')
    """
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _means(lists: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in lists.items()}


def read_lines(path: pathlib.Path) -> Lines:
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
