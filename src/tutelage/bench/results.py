"""Results: one line for each method and seed in a file that only grows."""

import base64
import hashlib
import json
import os
import pathlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.recipe.schema import Recipe

FILE, FAILED = "results.jsonl", "failed.jsonl"
HERE = ("cache", "offload", "workers", "accelerator", "log_every", "checkpoint_every", "seed")
"""Settings that say where and how a run is computed, not what."""

Line = dict[str, Any]


class Results:
    """``results.jsonl``: lines are appended whole, and never changed.

    Args:
        folder: Where the file is.
        file: Its name; ``failed.jsonl`` holds the runs that failed.
    """

    def __init__(self, folder: pathlib.Path, file: str = FILE) -> None:
        self.file = folder / file

    def lines(self) -> list[Line]:
        """All lines; a torn last one is dropped."""
        raw = self.file.read_bytes() if self.file.exists() else b""
        return [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines() if line.strip()]

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line and wait until it is on the disk; a torn last one goes."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b") as file:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            if whole < file.tell():
                os.truncate(file.fileno(), whole)
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def found(self, keys: Iterable[tuple[str, int, str]], data: str) -> dict[tuple[str, int], Line]:
        """The lines of these methods, seeds and keys on this data, by method and seed."""
        wanted = set(keys)
        lines = [line for line in self.lines() if line["data"] == data]
        known = {(line["method"], line["seed"]): line for line in lines if _key(line) in wanted}
        return known


def _key(line: Line) -> tuple[str, int, str]:
    return line["method"], line["seed"], line["key"]


def key(recipe: Recipe, student: str, teachers: Mapping[str, str]) -> str:
    """A hash of what a run computes: the resolved recipe without paths of this machine, places and seeds.

    Args:
        recipe: Resolved.
        student: What the student is: how it is built, or the fingerprint of what it starts from.
        teachers: The fingerprint of each teacher.
    """
    told = recipe.model_dump(mode="json", exclude={"student", "teachers", "seeds", "baseline", "methods"})
    for name in ("use", "root", "in_memory", "max_bad"):  # which samples these give is in the data's own fingerprint
        told["data"].pop(name)
    for name in HERE:
        told["train"].pop(name)
    told |= {"student": student, "teachers": dict(sorted(teachers.items()))}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def is_scored(line: Line) -> bool:
    """Whether the scores of a line are numbers: others cannot be compared."""
    return bool(unpack(line["scores"]).isfinite().all())


def pack(scores: Tensor) -> dict[str, Any]:
    """The score of each sample, ``[N]`` or ``[N, ...]``, as JSON: a bit each where all are 0 or 1, else float32.

    What is not bits is deflated: of pictures with boxes most of it is zeros.

    Example:
        >>> pack(torch.tensor([1.0, 0.0, 1.0]))
        {'samples': 3, 'bits': 'oA=='}
    """
    values = scores.detach().cpu().float().numpy()
    binary = bool(((values == 0) | (values == 1)).all())
    name, packed = "deflated", zlib.compress(values.astype("<f4").tobytes(), level=9)
    if binary:
        name, packed = "bits", np.packbits(values.astype(bool)).tobytes()
    shape = {"shape": list(values.shape)} if values.ndim > 1 else {}
    return {"samples": values.size, **shape, name: base64.b64encode(packed).decode()}


def unpack(packed: Mapping[str, Any]) -> Tensor:
    """The inverse of `pack`.

    Example:
        >>> unpack(pack(torch.tensor([1.0, 0.0, 1.0]))), unpack(pack(torch.tensor([0.5])))
        (tensor([1., 0., 1.]), tensor([0.5000]))
    """
    if "bits" in packed:
        read = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
        scores = torch.from_numpy(np.unpackbits(read, count=packed["samples"])).float()
    else:
        whole = zlib.decompress(base64.b64decode(packed["deflated"]))
        scores = torch.from_numpy(np.frombuffer(whole, dtype="<f4").copy())
    return scores.reshape(packed.get("shape", [-1]))
