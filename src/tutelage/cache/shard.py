"""Shard: one safetensors file with the answers of one teacher to one view of a block of samples.

Its tensors are columns, one row per sample. Beside the answers stand ``index`` (the sample) and ``seal``, a 64-bit
sum over the row, its sample, its view and the identity of teacher, augmentation and data. A row whose seal is right
is done: so a shard needs no journal while it is filled, and each row is checked each time it is read.
"""

import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tutelage.errors import CacheError

Array = np.ndarray[Any, Any]
Columns = Mapping[str, Array]

INDEX, SEAL = "index", "seal"

MEND = "`tutelage cache` with the same arguments mends it."


@dataclass(frozen=True)
class Column:
    """One tensor of a shard.

    Args:
        name: Its name.
        dtype: As numpy writes it, such as ``"float16"``.
        shape: Of one row.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


class Seal:
    """A 64-bit sum that belongs to one row alone.

    Each word of the row is multiplied by an odd random number of its own and all are added modulo 2**64: a change in
    one word always shows, any other change but for one in 2**63.

    Args:
        identity: What all rows have in common; another identity gives other seals.
        columns: What is summed.
    """

    def __init__(self, identity: str, columns: Sequence[Column]) -> None:
        self._columns = [column for column in columns if column.name not in (INDEX, SEAL)]
        self._words = {column.name: _word(column) for column in self._columns}
        self._factors = {
            column.name: _odd(
                f"{identity} {column.name}", column.row_bytes // np.dtype(self._words[column.name]).itemsize
            )
            for column in self._columns
        }
        self._start, self._of_index, self._of_view, self._of_part = _odd(identity, 4)

    def __call__(self, index: Array, view: Array | int, part: Array | int, columns: Columns) -> Array:
        """The seals of some rows.

        Args:
            index: Number of each sample, int64 ``[n]``.
            view: Number of each view, int64 ``[n]``, or of all.
            part: Number of each slice, int64 ``[n]``, or of all.
            columns: The rows.

        Returns:
            int64 ``[n]``.
        """
        total = np.full(len(index), self._start)
        for key, factor in ((index, self._of_index), (view, self._of_view), (part, self._of_part)):
            total += np.asarray(key, np.int64).reshape(-1).view(np.uint64) * factor
        for column in self._columns:
            rows = np.ascontiguousarray(columns[column.name]).reshape(len(index), -1).view(self._words[column.name])
            total += rows.astype(np.uint64, copy=False) @ self._factors[column.name]
        seals: Array = total.view(np.int64)
        return seals


def _word(column: Column) -> str:
    return next(f"u{size}" for size in (8, 4, 2, 1) if column.row_bytes % size == 0)


def _odd(text: str, count: int) -> Array:
    return np.frombuffer(hashlib.shake_256(text.encode()).digest(8 * count), np.uint64) | np.uint64(1)


class Shard:
    """A file of columns. It is mapped when first read, and read by the safetensors library.

    Args:
        path: The file.
        columns: What it holds.
        rows: How many rows.
    """

    def __init__(self, path: pathlib.Path, columns: Sequence[Column], rows: int) -> None:
        self.path, self.columns, self.rows = path, tuple(columns), rows
        self._header = _header(self.columns, rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "mapped"}

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self._header) + self.rows * sum(column.row_bytes for column in self.columns)

    def create(self) -> None:
        """Make the file with all its space taken and no row in it, unless it stands already.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        if self.path.exists() and self.broken() is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self.size)
                else:
                    file.truncate(self.size)
                file.write(self._header)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise

    def broken(self) -> str | None:
        """What is wrong with the file as a whole; None if it has the size and the head it should have."""
        try:
            found = self.path.stat().st_size
            if found != self.size:
                return f"expected {self.size:,} bytes, found {found:,}"
            with self.path.open("rb") as file:
                head = file.read(len(self._header))
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None if head == self._header else "its header is damaged"

    def put(self, first: int, columns: Columns) -> None:
        """Write rows at `first`, `first` + 1, …

        Raises:
            OSError: The disk is full.
        """
        start = len(self._header)
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for column in self.columns:
                content = np.ascontiguousarray(columns[column.name], dtype=column.dtype).tobytes()
                place = start + first * column.row_bytes
                while content:
                    written = os.pwrite(descriptor, content, place)
                    content, place = content[written:], place + written
                start += self.rows * column.row_bytes
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Wait until the rows are on the disk."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @cached_property
    def mapped(self) -> Columns:
        """The columns, memory-mapped and read-only.

        Raises:
            CacheError: The file is damaged as a whole.
        """
        from safetensors import safe_open

        if problem := self.broken():
            raise CacheError(f"{self.path}: {problem}. {MEND}")
        arrays: dict[str, Array] = {}
        with safe_open(self.path, "pt") as file:
            for column in self.columns:
                arrays[column.name] = file.get_tensor(column.name).numpy()
                arrays[column.name].flags.writeable = False
        return arrays

    def sealed(self, seal: Seal, index: Array, view: int, part: int, *, at_once: int = 65536) -> Array:
        """Which rows are whole, bool ``[rows]``.

        Args:
            seal: The sum to compare.
            index: The sample each row should belong to.
            view: The view all rows should belong to.
            part: The number of their slice.
            at_once: Rows looked at together.
        """
        whole = np.zeros(self.rows, bool)
        for first in range(0, self.rows, at_once):
            here = slice(first, first + at_once)
            rows = {name: array[here] for name, array in self.mapped.items()}
            right = seal(index[here], view, part, rows) == rows[SEAL]
            whole[here] = right & (rows[INDEX] == index[here])
        return whole


_NAMES = {"float16": "F16", "float32": "F32", "int64": "I64", "int32": "I32", "int16": "I16"}


def _header(columns: Sequence[Column], rows: int) -> bytes:
    """The head of a safetensors file: its length, then JSON with the place of each tensor, padded to 8 bytes."""
    told, end = {}, 0
    for column in columns:
        begin, end = end, end + rows * column.row_bytes
        shape = [rows, *column.shape]
        told[column.name] = {"dtype": _NAMES[column.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def in_order(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Columns with the widest numbers first, so that each starts where its numbers may."""
    return tuple(sorted(columns, key=lambda column: -np.dtype(column.dtype).itemsize))
