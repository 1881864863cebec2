"""Manifest: what a store holds and what it was made from. A shard counts when the manifest lists its view."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tutelage.errors import CacheError

from .coding import Coding, columns_of
from .shard import MEND, Array, Seal, Shard

SCHEMA = 1
CLEAN = -1
"""The view of pictures that are not augmented."""

FILE, SAMPLES, HEAD = "manifest.json", "samples", "head.safetensors"


@dataclass(frozen=True)
class Part:
    """A slice of the data whose samples are in the store.

    Args:
        fingerprint: Of the slice.
        samples: How many there are.
        listed: sha256 of their numbers, in the order of the rows.
    """

    fingerprint: str
    samples: int
    listed: str

    @classmethod
    def of(cls, fingerprint: str, index: Array) -> "Part":
        """The part whose rows belong to these samples, int64."""
        return cls(fingerprint, len(index), hashlib.sha256(index.tobytes()).hexdigest())

    @property
    def number(self) -> int:
        """A number for this slice alone, which goes into the seal of its rows."""
        return int.from_bytes(hashlib.sha256(self.fingerprint.encode()).digest()[:8], "little", signed=True)


@dataclass(frozen=True)
class Entry:
    """The answers of one teacher.

    Args:
        name: What the teacher was called when they were written.
        fingerprint: Of its weights, its normalisation and its class order.
        preprocess: Its normalisation, size and class order.
        folder: Where its shards lie, below the store.
        codings: How each tap is kept.
        bf16: Whether it computed in bf16.
        head: sha256 of the file that keeps its classifier; None without one.
        views: Part -> views that are complete.
    """

    name: str
    fingerprint: str
    preprocess: Mapping[str, Any] | None
    folder: str
    codings: tuple[Coding, ...]
    bf16: bool
    head: str | None
    views: Mapping[str, tuple[int, ...]]

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps that are kept."""
        return tuple(coding.tap for coding in self.codings)

    @property
    def top_k(self) -> int | None:
        """How many logits are kept; None for all."""
        return next((coding.top_k for coding in self.codings if not coding.tap), None)

    def with_view(self, part: str, view: int, there: bool) -> "Entry":
        """The same with a view more, or less."""
        views = {*self.views.get(part, ()), view} if there else {*self.views.get(part, ())} - {view}
        return replace(self, views={**self.views, part: tuple(sorted(views))})


@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Args:
        augment: The augmentation's arguments and fingerprint; None where pictures are not augmented.
        parts: Slices by name.
        entries: The teachers.
        rows: Samples in a shard.
        versions: Of what wrote it.
        schema: Of this file.
    """

    augment: Mapping[str, Any] | None
    parts: Mapping[str, Part]
    entries: tuple[Entry, ...] = ()
    rows: int = 1 << 20
    versions: Mapping[str, str] | None = None
    schema: int = SCHEMA

    @property
    def augmentation(self) -> str:
        """Fingerprint of the augmentation; ``"none"`` without one."""
        return "none" if self.augment is None else str(self.augment["fingerprint"])

    def find(self, teacher: str, taps: Sequence[str], top_k: int | None, dtype: str) -> Entry | None:
        """The fullest entry of a teacher, by its fingerprint, that has these taps in no less detail; None without."""
        dtypes = {dtype, "float32"}
        fits = [
            entry
            for entry in self.entries
            if entry.fingerprint == teacher
            and entry.top_k == top_k
            and {*taps} <= {*entry.taps}
            and {coding.dtype for coding in entry.codings} <= dtypes
        ]
        return max(fits, key=lambda entry: sum(map(len, entry.views.values())), default=None)

    def with_entry(self, entry: Entry) -> "Manifest":
        """The same with this entry in place of the one in its folder."""
        others = [e for e in self.entries if e.folder != entry.folder]
        return replace(self, entries=(*others, entry))

    def shards(self, store: pathlib.Path, entry: Entry, part: str, view: int) -> Iterator[tuple[int, Shard]]:
        """Number of the first sample, and shard, of all shards of a view."""
        samples = self.parts[part].samples
        name = "clean" if view == CLEAN else f"view-{view:04d}"
        for block, first in enumerate(range(0, samples, self.rows)):
            path = store / entry.folder / part / f"{name}-{block:04d}.safetensors"
            yield first, Shard(path, columns_of(entry.codings), min(self.rows, samples - first))

    def seal(self, entry: Entry) -> Seal:
        """For rows of this teacher under this augmentation."""
        return Seal(f"{entry.fingerprint} {self.augmentation}", columns_of(entry.codings))

    def encoded(self) -> bytes:
        """As it stands in the file."""
        told = {
            "schema": self.schema,
            "versions": self.versions,
            "augment": self.augment,
            "rows_per_shard": self.rows,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "teachers": [_told(entry) for entry in self.entries],
        }
        return (json.dumps(told, indent=1) + "\n").encode()

    def write(self, store: pathlib.Path) -> None:
        """Write it beside its place and move it there."""
        replace_file(store / FILE, self.encoded())

    @classmethod
    def read(cls, store: pathlib.Path) -> "Manifest":
        """Read it.

        Raises:
            CacheError: There is none, or it was written by another version.
        """
        try:
            told = json.loads((store / FILE).read_text(encoding="utf-8"))
        except OSError as error:
            raise CacheError(
                f"{store}: expected a store of teachers' answers (a {FILE}), found none. Make one: tutelage cache."
            ) from error
        except ValueError as error:
            raise CacheError(
                f"{store / FILE}: expected JSON, found: {error}. Delete the store and make it anew."
            ) from error
        schema = told.get("schema") if isinstance(told, dict) else None
        if schema != SCHEMA:
            raise CacheError(
                f"{store}: expected a store of schema {SCHEMA}, found schema {schema}, written by "
                f"{_versions(told)}. Read it with that version, or make a new store in another folder."
            )
        try:
            return cls(
                augment=told["augment"],
                parts={name: Part(**part) for name, part in told["parts"].items()},
                entries=tuple(_entry(entry) for entry in told["teachers"]),
                rows=told["rows_per_shard"],
                versions=told["versions"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CacheError(
                f"{store / FILE}: the file is damaged ({error!r}). Delete the store and make it anew."
            ) from error


def _told(entry: Entry) -> dict[str, Any]:
    return {
        **{name: value for name, value in asdict(entry).items() if name not in ("codings", "views")},
        "taps": [coding.to_dict() for coding in entry.codings],
        "views": {part: list(views) for part, views in entry.views.items()},
    }


def _entry(told: Mapping[str, Any]) -> Entry:
    rest = {name: value for name, value in told.items() if name not in ("taps", "views")}
    views = {part: tuple(views) for part, views in told["views"].items()}
    return Entry(**rest, codings=tuple(Coding.from_dict(tap) for tap in told["taps"]), views=views)


def _versions(told: Any) -> str:
    versions = told.get("versions") if isinstance(told, dict) else None
    return ", ".join(f"{name} {version}" for name, version in (versions or {}).items()) or "an unknown version"


def folder_name(name: str, fingerprint: str, codings: Sequence[Coding], bf16: bool) -> str:
    """The folder of an entry: the same for the same answers, another for any other."""
    told = json.dumps([fingerprint, bf16, [coding.to_dict() for coding in codings]])
    plain = "".join(c if c.isalnum() else "-" for c in name)[:40]
    return f"{plain}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def replace_file(path: pathlib.Path, content: bytes) -> None:
    """Write a small file beside its place, wait for the disk, and move it there; nothing if it stands there already."""
    if path.exists() and path.read_bytes() == content:
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_samples(store: pathlib.Path, part: str, index: Array) -> None:
    """Write which sample each row of a part belongs to."""
    from safetensors.numpy import save

    (store / SAMPLES).mkdir(parents=True, exist_ok=True)
    replace_file(store / SAMPLES / f"{part}.safetensors", save({"index": index}))


def read_samples(store: pathlib.Path, name: str, part: Part) -> Array:
    """Which sample each row of a part belongs to, int64.

    Raises:
        CacheError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = store / SAMPLES / f"{name}.safetensors"
    try:
        index: Array = load(path.read_bytes())["index"]
    except (OSError, SafetensorError, KeyError) as error:
        raise CacheError(f"{path}: cannot be read: {error}. {MEND}") from error
    if Part.of(part.fingerprint, index) != part:
        raise CacheError(f"{path}: the file is damaged. {MEND}")
    return index
