"""Reader: teachers' answers from a store, by sample and view, without reading it into memory."""

import hashlib
import pathlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor, nn

from tutelage.errors import CacheError

from .coding import columns_of
from .manifest import CLEAN, HEAD, Entry, Manifest, read_samples
from .shard import INDEX, MEND, SEAL, Array, Shard


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
            seal = self.manifest.seal(entry)
            for part, view in ((part, view) for part, views in entry.views.items() for view in views):
                index = read_samples(self.folder, part, self.manifest.parts[part])
                for first, shard in self.manifest.shards(self.folder, entry, part, view):
                    problem = shard.broken()
                    if problem is None:
                        those = index[first : first + shard.rows]
                        bad = int((~shard.sealed(seal, those, view, self.manifest.parts[part].number)).sum())
                        problem = f"{bad:,} of {shard.rows:,} rows are damaged" if bad else None
                    wrong += [] if problem is None else [f"{shard.path}: {problem}"]
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
        """Give every row an address: its shard's number times the rows of a shard, plus its place in there."""
        folder, manifest = self.store.folder, self.store.manifest
        self._shards: list[Shard] = []
        parts: list[int] = []
        # Both tables end in a -1, which is where numbers that are too small or too large are sent.
        self._rows_of = self._clean_rows_of = np.full(1, -1)
        self._first_of = np.full(
            2 + max((view for views in self.entry.views.values() for view in views), default=0), -1
        )
        for part, views in self.entry.views.items():
            samples = read_samples(folder, part, manifest.parts[part]) if views else np.empty(0, np.int64)
            for view in views:
                first = len(self._shards) * manifest.rows
                self._shards += [shard for _, shard in manifest.shards(folder, self.entry, part, view)]
                parts += [manifest.parts[part].number] * (len(self._shards) - len(parts))
                if view == CLEAN:
                    self._clean_rows_of = _with_rows(self._clean_rows_of, samples, first)
                else:
                    self._rows_of = _with_rows(self._rows_of, samples, 0)
                    self._first_of[view] = first
        self._parts = np.array(parts, np.int64)
        self._columns = columns_of(self.entry.codings)
        self._seal = manifest.seal(self.entry)
        for shard in self._shards:
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
        number, inside = np.divmod(self._addresses(samples, views), self.store.manifest.rows)
        found = self._gather(number, inside)
        right = found[SEAL] == self._seal(samples, views, self._parts[number], found)
        right &= found[INDEX] == samples
        if not right.all():
            raise self._damaged(samples, views, number, found, int(right.argmin()))
        return {coding.tap: coding.decode(found) for coding in self.entry.codings}

    def _addresses(self, samples: Array, views: Array) -> Array:
        """Where each row is."""
        clean = views < 0
        if not clean.any():
            rows, first = _look_up(self._rows_of, samples), _look_up(self._first_of, views)
        else:
            rows = np.where(clean, _look_up(self._clean_rows_of, samples), _look_up(self._rows_of, samples))
            first = np.where(clean, np.where(views == CLEAN, 0, -1), _look_up(self._first_of, views))
        missing = (rows | first) < 0
        if missing.any():
            bad = int(missing.argmax())
            raise self._missing(int(samples[bad]), int(views[bad]))
        addresses: Array = rows + first
        return addresses

    def _gather(self, number: Array, inside: Array) -> dict[str, Array]:
        """Copy rows out of the shards, one visit to each."""
        order = number.argsort(kind="stable")
        numbers, places = number[order], inside[order]
        cuts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
        visits = [(self._shards[numbers[a]].mapped, slice(a, b), places[a:b]) for a, b in pairwise(cuts) if b > a]
        found = {}
        for column in self._columns:
            rows = np.empty((len(order), *column.shape), column.dtype)
            for columns, here, there in visits:
                rows[here] = columns[column.name][there]
            found[column.name] = np.empty_like(rows)
            found[column.name][order] = rows
        return found

    def _damaged(self, samples: Array, views: Array, number: Array, found: dict[str, Array], bad: int) -> CacheError:
        held, sample = int(found[INDEX][bad]), int(samples[bad])
        what = "is damaged" if held == sample else f"holds sample {held}"
        return CacheError(
            f"{self._shards[number[bad]].path}: teacher {self.entry.name!r}, sample {sample}, view {views[bad]}: "
            f"the row {what}. {MEND}"
        )

    def _missing(self, sample: int, view: int) -> CacheError:
        have = ", ".join(f"{part} {_range(views)}" for part, views in self.entry.views.items() if views)
        rows_of = self._clean_rows_of if view == CLEAN else self._rows_of
        lacks = "sample" if _look_up(rows_of, np.array([sample]))[0] < 0 else "view"
        return CacheError(
            f"{self.store.folder}: teacher {self.entry.name!r}, sample {sample}, view {view}: this {lacks} is not in "
            f"the store, which has the views: {have or 'none'}. Add it with `tutelage cache`, or read no more views "
            "than there are (data.views)."
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


def _look_up(table: Array, numbers: Array) -> Array:
    """The values of a table that ends in -1; -1 for numbers outside."""
    if len(numbers) and numbers.min() >= 0 and numbers.max() < len(table):
        return np.asarray(table[numbers])
    return np.asarray(table[np.where((numbers < 0) | (numbers >= len(table)), len(table) - 1, numbers)])


def _with_rows(rows_of: Array, samples: Array, first: int) -> Array:
    """A table from samples to rows, which ends in -1, with these samples in rows `first`, `first` + 1, …"""
    grown = np.full(max(len(rows_of), int(samples.max(initial=-1)) + 2), -1, np.int64)
    grown[: len(rows_of)] = rows_of
    grown[samples] = np.arange(first, first + len(samples))
    return grown


def _list(taps: Sequence[str]) -> str:
    return ", ".join(repr(tap) if tap else "the output" for tap in dict.fromkeys(["", *taps]))


def _top(top_k: int | None) -> str:
    return "" if top_k is None else f" (top {top_k})"


def _range(views: Sequence[int]) -> str:
    if views == (CLEAN,):
        return "-1 (clean)"
    first, last = min(views), max(views)
    return f"{first} to {last}" if len(views) == last - first + 1 > 1 else ", ".join(map(str, views))
