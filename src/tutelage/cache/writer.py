"""Writer: computes what a store lacks, all teachers over one decoded and augmented batch.

It may be killed at any moment: a row counts when its seal is right, a view when the manifest lists it. Of two writers
one waits for the other and then computes what is left. Whoever fills the blocks, this process alone moves finished
shards under their name and writes the manifest.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from tutelage.errors import CacheError

from .fill import Block, Engine, Local
from .manifest import HEAD, Entry, Manifest, replace_file, write_samples
from .reader import Record, Store
from .request import Plan, Request, make_plan


def write(
    request: Request,
    *,
    engine: Engine | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Record]:
    """Compute and store what is missing; what is there is checked, and mended where it is damaged.

    Args:
        request: Which answers are wanted.
        engine: Where they are computed: here by default, or on the workers of a cluster, `OnRay`.
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
    with engine or Local() as here:
        request = here.suited(request)
        plan, manifest = _locked(request, here, say, progress)
    store = Store(request.folder)
    return {name: Record(store, _same(manifest, entry)) for name, entry in plan.entries.items()}


def _locked(
    request: Request, engine: Engine, say: Callable[[str], None], progress: Callable[[int, int], None]
) -> tuple[Plan, Manifest]:
    """Plan and work while no other process does."""
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
            return plan, _work(request, plan, engine, progress)
    except OSError as error:
        full = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise CacheError(
            f"{request.folder}: expected to write teachers' answers here, found: {full}. Make room or choose another "
            "folder; what was written before is intact, and the same command goes on from it."
        ) from error


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


def _work(request: Request, plan: Plan, engine: Engine, progress: Callable[[int, int], None]) -> Manifest:
    manifest = plan.manifest
    for part, slice_ in request.slices.items():
        write_samples(request.folder, part, slice_.index.numpy())
    for name, entry in plan.entries.items():
        manifest = manifest.with_entry(_with_head(request, name, _same(manifest, entry)))
    manifest.write(request.folder)
    told = _Told(plan.estimate.forwards, progress)
    blocks = [Block(*where, tuple(pieces)) for where, pieces in plan.missing.items()]
    left = Counter((block.part, block.view, piece.entry.folder) for block in blocks for piece in block.pieces)
    with contextlib.closing(engine.fill(request, manifest, blocks, told)) as filled:
        for block in filled:
            for piece in block.pieces:
                os.replace(piece.shard.path, piece.final)
                where = (block.part, block.view, piece.entry.folder)
                left[where] -= 1
                if not left[where]:
                    entry = _same(manifest, piece.entry)
                    manifest = manifest.with_entry(entry.with_view(block.part, block.view, True))
            manifest.write(request.folder)
    return manifest


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

    kept = linear(request.teachers[name].head)
    if kept is None:
        return dataclasses.replace(entry, head=None)
    content, path = save(kept), request.folder / entry.folder / HEAD
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    return dataclasses.replace(entry, head=hashlib.sha256(content).hexdigest())


@torch.no_grad()
def linear(head: nn.Module | None) -> dict[str, torch.Tensor] | None:
    """Weight and bias of a classifier in the order in which it answers: what a store keeps; None of any other head."""
    linear = None if head is None else next((part for part in head.modules() if isinstance(part, nn.Linear)), None)
    if head is None or linear is None:
        return None
    width, like = linear.in_features, linear.weight
    bias = head(torch.zeros(1, width, dtype=like.dtype, device=like.device))[0]
    weight = (head(torch.eye(width, dtype=like.dtype, device=like.device)) - bias).T
    return {"weight": weight.float().cpu().contiguous(), "bias": bias.float().cpu().contiguous()}
