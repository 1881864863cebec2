"""Reader: teachers' answers from a store, by sample and view, without reading it into memory."""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from tutelage.errors import CacheError

from .manifest import CLEAN, HEAD, Entry, Manifest, read_samples
from .shard import INDEX, MEND, SEAL, Array, Column, Shard


class Store:
    """A folder of teachers' answers.

    Args:
        folder: The folder.

    Raises:
        CacheError: There is no store, or one of another version.
    """

    def __init__(self, folder: pathlib.Path | str) -> None:
        self.folder = pathlib.Path(folder)
        self.manifest = Manifest.read(self.folder)

    def record(self, teacher: str, taps: Sequence[str] = (), *, top_k: int | None = None) -> "Record":
        """The answers of one teacher.

        Args:
            teacher: Its fingerprint, or the name it was written under.
            taps: What will be asked for; the output always is.
            top_k: How many logits were kept; None for all, or for whatever there is.

        Raises:
            CacheError: Says what the store has instead.
        """
        entries = self.manifest.entries
        known = [e for e in entries if teacher in (e.fingerprint, e.name)]
        if not known:
            have = ", ".join(f"{e.name} ({e.fingerprint})" for e in entries) or "none"
            raise CacheError(
                f"{self.folder}: expected answers of teacher {teacher!r}, found those of: {have}. "
                "Other weights or another normalisation make another teacher; add it with `tutelage cache`."
            )
        if len({e.fingerprint for e in known}) > 1:
            raise CacheError(
                f"{self.folder}: {len(known)} different teachers were written as {teacher!r}: "
                f"{', '.join(e.fingerprint for e in known)}. Name one by its fingerprint."
            )
        fits = [e for e in known if {*taps} <= {*e.taps} and top_k in (None, e.top_k)]
        if not fits:
            raise CacheError(
                f"{self.folder}: expected teacher {teacher!r} at {_list(taps)}{_top(top_k)}, found "
                f"{'; '.join(_list(e.taps) + _top(e.top_k) for e in known)}. Add what is missing with `tutelage cache`."
            )
        # Where logits were kept whole and in part, the whole ones answer.
        return Record(self, min(fits, key=lambda e: (e.top_k is not None, -sum(map(len, e.views.values())))))

    def verify(self) -> list[str]:
        """Read everything and check every row.

        Returns:
            A line for each file in which something is wrong.
        """
        wrong = []
        for entry in self.manifest.entries:
            for part, views in entry.views.items():
                index, seal = (
                    read_samples(self.folder, part, self.manifest.parts[part].samples),
                    self.manifest.seal(entry, part),
                )
                for view in views:
                    for first, shard in self.manifest.shards(self.folder, entry, part, view):
                        if problem := shard.broken():
                            wrong.append(f"{shard.path}: {problem}")
                            continue
                        bad = int((~shard.sealed(seal, index[first : first + shard.rows], view)).sum())
                        wrong += [f"{shard.path}: {bad:,} of {shard.rows:,} rows are damaged"] if bad else []
        return wrong


class Record:
    """The answers of one teacher, read by sample and view.

    Args:
        store: Where they are.
        entry: Which they are.
    """

    def __init__(self, store: Store, entry: Entry) -> None:
        self.store, self.entry = store, entry
        self._open()

    def _open(self) -> None:
        manifest = self.store.manifest
        self._columns: dict[str, Column] = {}
        self._rows_of: dict[str, Array] = {}
        self._shards: dict[tuple[str, int], list[Shard]] = {}
        self._seals = {}
        for part, views in self.entry.views.items():
            if views:
                self._rows_of[part] = _inverse(
                    read_samples(self.store.folder, part, manifest.parts[part].samples)
                )
                self._seals[part] = manifest.seal(self.entry, part)
            for view in views:
                shards = [shard for _, shard in manifest.shards(self.store.folder, self.entry, part, view)]
                self._columns = {column.name: column for column in shards[0].columns}
                self._shards[part, view] = shards
        for shard in (shard for shards in self._shards.values() for shard in shards):
            if problem := shard.broken():
                raise CacheError(f"{shard.path}: {problem}. {MEND}")

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "entry": self.entry}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def rows(self, index: Tensor, view: Tensor) -> dict[str, Tensor]:
        """What the teacher said about some samples.

        Args:
            index: Number of each sample, int64 ``[B]``.
            view: Number of each view, int64 ``[B]``; -1 is the clean picture.

        Returns:
            Tap -> ``[B, ...]``, float32, on the CPU.

        Raises:
            CacheError: A sample and view that are not there, or a row that is damaged or stands in a wrong place.
        """
        samples, views = index.cpu().numpy(), view.cpu().numpy()
        found = {c.name: np.empty((len(samples), *c.shape), c.dtype) for c in self._columns.values()}
        for wanted in np.unique(views).tolist():
            where = np.flatnonzero(views == wanted)
            for part, rows_of in self._rows_of.items():
                if len(where) and (part, wanted) in self._shards:
                    where = self._fill(found, samples, where, part, rows_of, wanted)
            if len(where):
                raise self._missing(int(samples[where[0]]), wanted)
        return {coding.tap: coding.decode(found) for coding in self.entry.codings}

    def _fill(
        self, found: dict[str, Array], samples: Array, where: Array, part: str, rows_of: Array, view: int
    ) -> Array:
        """Copy the rows of a view that this part has; return the positions that it has not."""
        asked = samples[where]
        rows = rows_of[np.where((asked >= 0) & (asked < len(rows_of)), asked, len(rows_of) - 1)]
        here, there = (where, where[:0]) if rows.min() >= 0 else (where[rows >= 0], where[rows < 0])
        rows = rows[rows >= 0]
        shards, size = self._shards[part, view], self.store.manifest.rows
        block = rows // size
        for number in [0] if len(shards) == 1 else np.unique(block).tolist():
            place, inside = (
                (here, rows) if len(shards) == 1 else (here[block == number], rows[block == number] % size)
            )
            columns = shards[number].mapped
            whole = len(place) == len(samples)
            for name, target in found.items():
                if whole:
                    found[name] = columns[name][inside]
                else:
                    target[place] = columns[name][inside]
        if len(here):
            self._check(found, samples, here, part, view)
        return there

    def _check(self, found: dict[str, Array], samples: Array, here: Array, part: str, view: int) -> None:
        rows = found if len(here) == len(samples) else {name: array[here] for name, array in found.items()}
        asked = samples[here]
        right = rows[SEAL] == self._seals[part](asked, np.full(len(asked), view), rows)
        right &= rows[INDEX] == asked
        if not right.all():
            bad = int(np.flatnonzero(~right)[0])
            held = int(rows[INDEX][bad])
            what = "is damaged" if held == asked[bad] else f"holds sample {held}"
            raise CacheError(
                f"{self.store.folder / self.entry.folder / part}: teacher {self.entry.name!r}, sample {asked[bad]}, view {view}: "
                f"the row {what}. {MEND}"
            )

    def _missing(self, sample: int, view: int) -> CacheError:
        have = (
            ", ".join(f"{part} {_range(views)}" for part, views in self.entry.views.items() if views)
            or "nothing"
        )
        known = any(
            0 <= sample < len(rows_of) - 1 and rows_of[sample] >= 0 for rows_of in self._rows_of.values()
        )
        lacks = "this view" if known else "this sample"
        return CacheError(
            f"{self.store.folder}: teacher {self.entry.name!r}, sample {sample}, view {view}: {lacks} is not in the store, which "
            f"has the views: {have}. Add it with `tutelage cache`, or read no more views than there are (data.views)."
        )

    @property
    def head(self) -> nn.Module | None:
        """The teacher's classifier, with its logits in the user's class order; None if there is none.

        Raises:
            CacheError: Its file is damaged.
        """
        if self.entry.head is None:
            return None
        from safetensors.torch import load

        path = self.store.folder / self.entry.folder / HEAD
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CacheError(f"{path}: cannot be read: {error.strerror}. {MEND}") from error
        if hashlib.sha256(content).hexdigest() != self.entry.head:
            raise CacheError(f"{path}: the file is damaged. {MEND}")
        kept = load(content)
        # Without first weights: drawing them would move the random numbers of the run.
        linear = nn.Linear(kept["weight"].shape[1], kept["weight"].shape[0], device="meta")
        linear.load_state_dict(kept, assign=True)
        return linear.eval().requires_grad_(False)

    def views(self, part: str = "train") -> tuple[int, ...]:
        """The views that are there for each sample of a part."""
        return self.entry.views.get(part, ())


def _inverse(index: Array) -> Array:
    """Row of each sample, -1 where there is none; one longer than needed, so that its end is always -1."""
    rows = np.full(int(index.max(initial=-1)) + 2, -1, np.int64)
    rows[index] = np.arange(len(index))
    return rows


def _list(taps: Sequence[str]) -> str:
    return ", ".join(repr(tap) if tap else "the output" for tap in dict.fromkeys(["", *taps]))


def _top(top_k: int | None) -> str:
    return "" if top_k is None else f" (top {top_k})"


def _range(views: Sequence[int]) -> str:
    if views == (CLEAN,):
        return "-1 (clean)"
    first, last = min(views), max(views)
    return f"{first} to {last}" if len(views) == last - first + 1 > 1 else ", ".join(map(str, views))
