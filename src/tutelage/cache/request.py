"""Request: which answers are wanted, which of them are still missing, and what it takes to compute them."""

import dataclasses
import hashlib
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tutelage.errors import CacheError
from tutelage.ledger import Batch, Outputs
from tutelage.taps import is_large

from .coding import Coding
from .manifest import CLEAN, FILE, Entry, Manifest, Part, folder_name
from .shard import Array, Shard

TRAIN = "train"


@dataclass(frozen=True)
class Request:
    """Which answers are wanted.

    Args:
        folder: The store; made if there is none.
        teachers: Bound teachers by name: called with ``(batch, {})`` they give ``{tap: tensor}``.
        taps: Teacher -> the taps wanted beside the output.
        fingerprints: Teacher -> of its weights, normalisation and class order, `models.fingerprint`.
        task: Makes batches of what a loader gives: `Task.unpack`.
        slices: ``"train"``, of which all views are wanted, and others (selection, guard), of which the clean
            pictures are.
        augment: The augmentation of ``"train"``; None for clean pictures.
        views: How many views of each training sample; without augmentation there is only the clean one.
        top_k: Keep this many logits and spread the rest evenly; None keeps all, which is right up to 100 classes.
        dtype: ``"float32"`` where answers are beyond float16 (65,504); chosen unasked for a tap that comes near it on
            the first samples.
        maps: Whether taps within a network that are no vectors may be kept, too. They are large. An output of maps is
            kept as it is.
        bf16: Let teachers compute in bf16; for hardware that has it natively.
        batch_size: Samples in a forward of a teacher.
        device: Where teachers compute.
        limit: Largest number of bytes to be written.
        rows: Samples in a shard of a new store.
    """

    folder: pathlib.Path
    teachers: Mapping[str, Any]
    taps: Mapping[str, tuple[str, ...]]
    fingerprints: Mapping[str, str]
    task: Any
    slices: Mapping[str, Any]
    augment: Any = None
    views: int = 4
    top_k: int | None = None
    dtype: Literal["float16", "float32"] = "float16"
    maps: bool = False
    bf16: bool = False
    batch_size: int = 256
    device: str | torch.device = "cpu"
    limit: float = 20e9
    rows: int = 1 << 20

    def wanted(self) -> Iterator[tuple[str, int]]:
        """Part and view of all that is wanted."""
        for part, slice_ in self.slices.items():
            augmented = part == TRAIN and self.augment is not None
            for view in range(self.views) if augmented else [CLEAN]:
                if len(slice_):
                    yield part, view

    def batch(self, part: str, positions: Tensor, view: int) -> Batch:
        """The samples at these positions of a slice, as all teachers see them."""
        augment = None if view == CLEAN else self.augment
        batch: Batch = self.task.unpack(self.slices[part].batch(positions, augment, torch.full_like(positions, view)))
        inputs = batch.inputs.to(self.device)
        if inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return dataclasses.replace(batch, inputs=inputs)

    def answer(self, name: str, batch: Batch, *, bf16: bool) -> Outputs:
        """What a teacher says about a batch."""
        kind = torch.device(self.device).type
        if kind != "cpu":
            self.teachers[name].to(
                self.device
            )  # does nothing where it is there already, or comes for its forward alone
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=bf16):
            said: Outputs = self.teachers[name](batch, {})
            return said


@dataclass(frozen=True)
class Estimate:
    """What it takes to compute what is missing.

    Args:
        bytes: What will be written.
        seconds: How long the teachers take, from one timed batch each.
        forwards: Samples times teachers.
        tap_bytes: Teacher -> tap -> bytes.
        free: Bytes free on the disk.
    """

    bytes: int
    seconds: float
    forwards: int
    tap_bytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    free: int = 0

    def describe(self) -> str:
        """One line, and one for each teacher."""
        if not self.forwards:
            return "teachers' answers: all are in the store"
        lines = [
            f"teachers' answers: {self.forwards:,} forwards, about {_span(self.seconds)}, {_size(self.bytes)} to write"
        ]
        for name, taps in self.tap_bytes.items():
            told = ", ".join(f"{tap or 'output'} {_size(size)}" for tap, size in taps.items())
            lines.append(f"  {name}: {told}")
        return "\n".join(lines)


@dataclass
class Piece:
    """A shard that is not complete.

    Args:
        entry: Whose answers.
        shard: The file that is filled, not yet under its own name if it is new.
        final: Its own name.
        done: Which rows are whole.
    """

    entry: Entry
    shard: Shard
    final: pathlib.Path
    done: Array


@dataclass(frozen=True)
class Plan:
    """What is there and what is missing.

    Args:
        manifest: Of the store, with the entries that are wanted; views that are not whole are not listed.
        entries: Teacher -> its entry.
        missing: (part, view, first sample) -> what is not complete.
        estimate: What it takes.
        notes: What was found damaged, a line each.
    """

    manifest: Manifest
    entries: Mapping[str, Entry]
    missing: Mapping[tuple[str, int, int], list[Piece]]
    estimate: Estimate
    notes: list[str]


def estimate(request: Request) -> Estimate:
    """What it would take to compute what is missing. Writes nothing.

    Raises:
        CacheError: The store holds answers for other data or another augmentation.
    """
    return make_plan(request).estimate


def make_plan(request: Request) -> Plan:
    """Look into the store, run each teacher that is needed on one batch, and count."""
    manifest = open_manifest(request)
    entries = {name: _entry(request, manifest, name) for name in request.teachers}
    missing: dict[tuple[str, int, int], list[Piece]] = {}
    notes: list[str] = []
    for entry in {entry.folder: entry for entry in entries.values()}.values():
        manifest = _survey(request, manifest.with_entry(entry), entry, missing, notes)
    entries = {name: next(e for e in manifest.entries if e.folder == entry.folder) for name, entry in entries.items()}
    return Plan(manifest, entries, missing, _count(request, missing), notes)


def open_manifest(request: Request) -> Manifest:
    """The manifest of the store, or a new one.

    Raises:
        CacheError: It is of another version, or for other data or another augmentation.
    """
    import tutelage

    parts = {name: Part.of(s.fingerprint, s.index.numpy()) for name, s in request.slices.items() if len(s)}
    augment = None
    if request.augment is not None:
        arguments = {"fingerprint": request.augment.fingerprint, "arguments": request.augment.to_dict()}
        augment = arguments | {"pictures": _pictures(request)}
    _refuse_ambiguous(request)
    versions = {"tutelage": tutelage.__version__, "torch": str(torch.__version__)}
    if not (request.folder / FILE).exists():
        return Manifest(augment, parts, rows=request.rows, versions=versions)
    found = Manifest.read(request.folder)
    differs = [
        f"slice {name!r} (fingerprint {found.parts[name].fingerprint[:12]}, now {part.fingerprint[:12]})"
        for name, part in parts.items()
        if name in found.parts and found.parts[name] != part
    ]
    stored, now = _told(found.augment), _told(augment)
    if stored != now:
        differs.append(f"augmentation ({stored}, now {now})")
    elif found.augment != augment and not differs:  # of other samples, the pictures are others anyway
        differs.append(f"augmentation ({now} has come to mean other pictures)")
    if differs:
        raise CacheError(
            f"{request.folder}: the store was made for another {' and another '.join(differs)}. "
            "Restore it, or use another folder."
        )
    return dataclasses.replace(found, parts={**found.parts, **parts})


def _pictures(request: Request) -> str:
    """A hash of some augmented pictures: tells when the same arguments come to mean other pictures."""
    slice_ = request.slices[TRAIN]
    positions = torch.arange(min(16, len(slice_)))
    pictures = slice_.batch(positions, request.augment, torch.arange(len(positions)) % 4)["inputs"]
    if pictures.is_floating_point():
        pictures = (pictures * 255).round().clamp(0, 255).to(torch.uint8)
    return hashlib.sha256(pictures.contiguous().numpy().tobytes()).hexdigest()


def _told(augment: Mapping[str, Any] | None) -> str:
    return "none" if augment is None else " ".join(f"{k}={v}" for k, v in augment["arguments"].items())


def _refuse_ambiguous(request: Request) -> None:
    """Clean pictures are found by their number alone: two slices may not share one."""
    seen: dict[str, Any] = {}
    for part, view in request.wanted():
        if view == CLEAN:
            index = request.slices[part].index
            for other, numbers in seen.items():
                if (shared := np.intersect1d(index.numpy(), numbers.numpy())).size:
                    raise CacheError(
                        f"{request.folder}: sample {shared[0]} is in slice {other!r} and in slice {part!r}, so its "
                        f"clean picture would be two. Leave one of the slices out, or keep it in a store of its own."
                    )
            seen[part] = index


def _entry(request: Request, manifest: Manifest, name: str) -> Entry:
    """The entry of a teacher: the one there is, or a new one, for which the teacher answers one batch."""
    fingerprint, taps = request.fingerprints[name], ("", *request.taps.get(name, ()))
    found = manifest.find(fingerprint, taps, request.top_k, request.dtype)
    if found is not None:
        return found
    said = request.answer(name, _first_batch(request), bf16=request.bf16)
    codings = tuple(_coding(request, tap, said[tap]) for tap in taps)
    _refuse_maps(request, name, codings)
    preprocess: Any = getattr(getattr(request.teachers[name], "network", None), "preprocess", None)
    return Entry(
        name=name,
        fingerprint=fingerprint,
        preprocess=preprocess.to_dict() if hasattr(preprocess, "to_dict") else None,
        folder=folder_name(name, fingerprint, codings, request.bf16),
        codings=codings,
        bf16=request.bf16,
        head=None,
        views={},
    )


def _coding(request: Request, tap: str, said: Tensor) -> Coding:
    shape = tuple(said.shape[1:])
    large = bool((said.float().abs().nan_to_num(0.0, 0.0) > _NEAR_THE_END_OF_FLOAT16).any())
    whole = tap or len(shape) != 1 or request.top_k is None or request.top_k >= shape[0]
    return Coding(tap, shape, "float32" if large else request.dtype, None if whole else request.top_k)


_NEAR_THE_END_OF_FLOAT16 = 2.0**14


def _refuse_maps(request: Request, name: str, codings: tuple[Coding, ...]) -> None:
    maps = {c.tap: c for c in codings if c.tap and is_large(c.tap, c.shape)}
    if maps and not request.maps:
        rows = sum(len(request.slices[part]) for part, _ in request.wanted())
        told = ", ".join(
            f"{tap} {list(c.shape)} ({_size(rows * sum(k.row_bytes for k in c.columns))})" for tap, c in maps.items()
        )
        raise CacheError(
            f"teacher {name!r}: expected vectors to keep, found maps: {told}. Ask for them (tutelage cache "
            "--maps) if that is worth it, leave these paths out, or hear the teachers live (train.cache=live)."
        )


def whole_rows(
    request: Request, manifest: Manifest, entry: Entry, shard: Shard, part: str, view: int, first: int
) -> Array:
    """Which rows of a shard need not be computed, bool ``[rows]``: those whose seal is right."""
    here = Shard(shard.path, shard.columns, shard.rows)  # so that the file is mapped as it is now
    if here.broken() is not None:
        return np.zeros(shard.rows, bool)
    index = request.slices[part].index[first : first + shard.rows].numpy()
    return here.sealed(manifest.seal(entry), index, view, manifest.parts[part].number)


def _survey(
    request: Request,
    manifest: Manifest,
    entry: Entry,
    missing: dict[tuple[str, int, int], list[Piece]],
    notes: list[str],
) -> Manifest:
    """Find what is not whole; views that are not are taken off the manifest's list."""
    for part, view in request.wanted():
        listed, whole = view in entry.views.get(part, ()), True
        for first, final in manifest.shards(request.folder, entry, part, view):
            problem = final.broken()
            part_file = Shard(final.path.with_suffix(".part"), final.columns, final.rows)
            shard = part_file if problem else final
            done = whole_rows(request, manifest, entry, shard, part, view, first)
            if listed and not done.all():
                notes.append(f"{final.path}: {problem or f'{(~done).sum():,} rows are damaged'}; mended")
            if not (done.all() and shard is final):
                whole = False
                missing.setdefault((part, view, first), []).append(Piece(entry, shard, final.path, done))
        if whole != listed:
            entry = entry.with_view(part, view, whole)
            manifest = manifest.with_entry(entry)
    return manifest


def _count(request: Request, missing: Mapping[tuple[str, int, int], list[Piece]]) -> Estimate:
    rows: dict[str, int] = {}
    sizes: dict[str, dict[str, int]] = {}
    size, entries = 0, {}
    for pieces in missing.values():
        for piece in pieces:
            name, left = piece.entry.name, int((~piece.done).sum())
            entries[name] = piece.entry
            rows[name] = rows.get(name, 0) + left
            size += 0 if piece.shard.path.exists() else piece.shard.size
            for coding in piece.entry.codings if left else ():
                taps = sizes.setdefault(name, {})
                taps[coding.tap] = taps.get(coding.tap, 0) + left * sum(c.row_bytes for c in coding.columns)
    seconds = sum(left * _seconds_per_sample(request, entries[name]) for name, left in rows.items() if left)
    free = shutil.disk_usage(_existing(request.folder)).free
    return Estimate(size, seconds, sum(rows.values()), sizes, free)


def _seconds_per_sample(request: Request, entry: Entry) -> float:
    name = next(n for n, f in request.fingerprints.items() if f == entry.fingerprint and n in request.teachers)
    batch = _first_batch(request)
    for _ in range(2):  # the first may compile the network, or wake the hardware
        began = time.perf_counter()
        request.answer(name, batch, bf16=entry.bf16)[""].sum().item()
        seconds = time.perf_counter() - began
    return seconds / len(batch)


def _first_batch(request: Request) -> Batch:
    """As many samples as a teacher will answer at once."""
    part, view = next(request.wanted())
    return request.batch(part, torch.arange(min(request.batch_size, len(request.slices[part]))), view)


def _existing(folder: pathlib.Path) -> pathlib.Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
