"""Writer: computes what a store lacks, all teachers over one decoded and augmented batch.

It may be killed at any moment: a row counts when its seal is right, a view when the manifest lists it. Of two writers
one waits for the other and then computes what is left.
"""

import dataclasses
import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tutelage.errors import CacheError

from .coding import encode
from .manifest import HEAD, Entry, Manifest, replace_file, write_samples
from .reader import Record, Store
from .request import Piece, Plan, Request, make_plan
from .shard import INDEX, SEAL


def write(
    request: Request,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Record]:
    """Compute and store what is missing; what is there is checked, and mended where it is damaged.

    Args:
        request: Which answers are wanted.
        say: Told the estimate before the work starts, and what was found damaged.
        progress: Told how many forwards are done, of how many.

    Returns:
        Teacher -> its answers.

    Raises:
        CacheError: The store was made for something else, it would be too large, or the disk is full. What was in the
            store before stays readable.

    Example:
        >>> import tempfile, pathlib
        >>> from tutelage import Frozen, data, ledger, tasks
        >>> train = data.Slice(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]), ("a", "b"))
        >>> task, teacher = tasks.Classification(2), Frozen(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
        >>> teacher.bind(ledger.Spec(call=task.call, taps={"big": ()}), "big")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asked = Request(
        ...         pathlib.Path(folder), {"big": teacher}, {}, {"big": "its fingerprint"}, task, {"train": train},
        ...         augment=data.Augment(flip=True), views=2,
        ...     )
        ...     record = write(asked)["big"]
        ...     record.rows(torch.tensor([2, 0]), torch.tensor([1, 0]))[""].shape
        torch.Size([2, 2])
    """
    from filelock import FileLock, Timeout

    lock = FileLock(request.folder / ".lock")
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{request.folder}: another process is writing here; waiting for it")
        with lock:
            plan = make_plan(request)
            _announce(request, plan, say)
            manifest = _work(request, plan, progress)
    except OSError as error:
        full = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise CacheError(
            f"{request.folder}: expected to write teachers' answers here, found: {full}. Make room or choose another "
            "folder; what was written before is intact, and the same command goes on from it."
        ) from error
    store = Store(request.folder)
    return {name: Record(store, _same(manifest, entry)) for name, entry in plan.entries.items()}


def _announce(request: Request, plan: Plan, say: Callable[[str], None]) -> None:
    found = plan.estimate
    for note in plan.notes:
        say(note)
    say(found.describe())
    if found.bytes > request.limit:
        raise CacheError(
            f"{request.folder}: expected at most {request.limit / 1e9:.3g} GB to write, found {found.bytes / 1e9:.3g} "
            "GB. Keep fewer views (data.views), fewer paths, or the largest logits only (tutelage cache --top-k), or "
            "raise its --limit."
        )
    if found.bytes > 0.95 * found.free:
        raise CacheError(
            f"{request.folder}: expected {found.bytes / 1e9:.3g} GB free on the disk, found {found.free / 1e9:.3g} GB. "
            "Make room, choose another folder, or keep fewer views (data.views)."
        )


def _work(request: Request, plan: Plan, progress: Callable[[int, int], None]) -> Manifest:
    manifest = plan.manifest
    for part, slice_ in request.slices.items():
        write_samples(request.folder, part, slice_.index.numpy())
    for name, entry in plan.entries.items():
        manifest = manifest.with_entry(_with_head(request, name, _same(manifest, entry)))
    manifest.write(request.folder)
    owners = {request.fingerprints[name]: name for name in request.teachers}
    told = _Told(plan.estimate.forwards, progress)
    for (part, view, first), pieces in plan.missing.items():
        _fill(request, manifest, owners, part, view, first, pieces, told)
        for piece in pieces:
            piece.shard.sync()
            os.replace(piece.shard.path, piece.final)
            entry = _same(manifest, piece.entry)
            if all(shard.path.exists() for _, shard in manifest.shards(request.folder, entry, part, view)):
                manifest = manifest.with_entry(entry.with_view(part, view, True))
        manifest.write(request.folder)
    return manifest


def _fill(
    request: Request,
    manifest: Manifest,
    owners: dict[str, str],
    part: str,
    view: int,
    first: int,
    pieces: Sequence[Piece],
    told: "_Told",
) -> None:
    """Compute the missing rows of one block, batch by batch."""
    for piece in pieces:
        piece.shard.create()
    seals = [manifest.seal(piece.entry) for piece in pieces]
    needed = np.flatnonzero(~np.logical_and.reduce([piece.done for piece in pieces]))
    for start in range(0, len(needed), request.batch_size):
        rows = needed[start : start + request.batch_size]
        batch = request.batch(part, torch.from_numpy(rows + first), view)
        index = batch.index.numpy()
        for piece, seal in zip(pieces, seals, strict=True):
            if piece.done[rows].all():
                continue
            name = owners[piece.entry.fingerprint]
            said = request.answer(name, batch, bf16=piece.entry.bf16)
            try:
                columns = {**encode(piece.entry.codings, said), INDEX: index}
            except OverflowError as error:
                row, value = error.args
                raise CacheError(
                    f"teacher {name!r}, sample {index[row]}, view {view}: {value:.3g} is beyond float16 (65,504). Keep "
                    "its answers as float32 (tutelage cache --float32), or hear it live (train.cache=live)."
                ) from error
            _put(piece, rows, {**columns, SEAL: seal(index, view, manifest.parts[part].number, columns)})
            told(len(rows))


def _put(piece: Piece, rows: Any, columns: dict[str, Any]) -> None:
    """Write rows, in runs that follow each other."""
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        piece.shard.put(int(rows[run[0]]), {name: array[run[0] : run[-1] + 1] for name, array in columns.items()})


class _Told:
    """Counts forwards for the progress callback."""

    def __init__(self, of: int, progress: Callable[[int, int], None]) -> None:
        self.done, self.of, self.progress = 0, of, progress

    def __call__(self, more: int) -> None:
        self.done += more
        self.progress(min(self.done, self.of), self.of)


def _same(manifest: Manifest, entry: Entry) -> Entry:
    return next(e for e in manifest.entries if e.folder == entry.folder)


def _with_head(request: Request, name: str, entry: Entry) -> Entry:
    """The entry with the teacher's classifier written, if it has one and the file is not there or damaged."""
    from safetensors.torch import save

    kept = _linear(request.teachers[name].head)
    if kept is None:
        return dataclasses.replace(entry, head=None)
    content, path = save(kept), request.folder / entry.folder / HEAD
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    return dataclasses.replace(entry, head=hashlib.sha256(content).hexdigest())


@torch.no_grad()
def _linear(head: nn.Module | None) -> dict[str, torch.Tensor] | None:
    """Weight and bias of a classifier in the order in which it answers."""
    linear = None if head is None else next((part for part in head.modules() if isinstance(part, nn.Linear)), None)
    if head is None or linear is None:
        return None
    width, like = linear.in_features, linear.weight
    bias = head(torch.zeros(1, width, dtype=like.dtype, device=like.device))[0]
    weight = (head(torch.eye(width, dtype=like.dtype, device=like.device)) - bias).T
    return {"weight": weight.float().cpu().contiguous(), "bias": bias.float().cpu().contiguous()}
