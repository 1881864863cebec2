"""Fill: computes the missing rows of one block of samples. An engine decides where that happens."""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch

from tutelage.errors import CacheError

from .coding import encode
from .manifest import Manifest
from .request import Piece, Request, whole_rows
from .shard import INDEX, SEAL

Told = Callable[[int], None]
"""Told how many forwards more are done."""


@dataclass(frozen=True)
class Block:
    """The shards of all teachers for one view of the samples in one run of rows; at least one is not complete.

    Args:
        part: The slice.
        view: The view.
        first: The first row.
        pieces: What is not complete, teacher by teacher.
    """

    part: str
    view: int
    first: int
    pieces: tuple[Piece, ...]

    @property
    def forwards(self) -> int:
        """How many are left."""
        return sum(int((~piece.done).sum()) for piece in self.pieces)

    def again(self, request: Request, manifest: Manifest) -> "Block":
        """The same block after another look at the disk."""
        where = (self.part, self.view, self.first)
        pieces = (
            dataclasses.replace(piece, done=whole_rows(request, manifest, piece.entry, piece.shard, *where))
            for piece in self.pieces
        )
        return dataclasses.replace(self, pieces=tuple(pieces))


Blocks = Generator[Block, None, None]
"""Blocks that are finished, one by one; closing it stops the work."""


class Engine(Protocol):
    """Where blocks are filled. It is entered before the store is looked at and left when all is done."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def suited(self, request: Request) -> Request:
        """The request as this engine wants it."""

    def fill(self, request: Request, manifest: Manifest, blocks: Sequence[Block], told: Told) -> Blocks:
        """Fill blocks; each is given back when its rows are on the disk, in any order."""


class Local:
    """Fills one block after another in this process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def suited(self, request: Request) -> Request:
        """The request as it is."""
        return request

    def fill(self, request: Request, manifest: Manifest, blocks: Sequence[Block], told: Told) -> Blocks:
        """One after another."""
        for block in blocks:
            fill(request, manifest, block, told)
            yield block


def fill(request: Request, manifest: Manifest, block: Block, told: Told) -> None:
    """Compute the missing rows of a block, batch by batch, and wait until they are on the disk.

    Raises:
        CacheError: An answer is beyond float16.
        OSError: The disk is full, or the folder cannot be written.
    """
    for piece in block.pieces:
        piece.shard.create()
    seals = [manifest.seal(piece.entry) for piece in block.pieces]
    part = manifest.parts[block.part].number
    owners = {request.fingerprints[name]: name for name in request.teachers}
    needed = np.flatnonzero(~np.logical_and.reduce([piece.done for piece in block.pieces]))
    for start in range(0, len(needed), request.batch_size):
        rows = needed[start : start + request.batch_size]
        batch = request.batch(block.part, torch.from_numpy(rows + block.first), block.view)
        index = batch.index.numpy()
        for piece, seal in zip(block.pieces, seals, strict=True):
            if piece.done[rows].all():
                continue
            name = owners[piece.entry.fingerprint]
            said = request.answer(name, batch, bf16=piece.entry.bf16)
            try:
                columns = {**encode(piece.entry.codings, said), INDEX: index}
            except OverflowError as error:
                row, value = error.args
                raise CacheError(
                    f"teacher {name!r}, sample {index[row]}, view {block.view}: {value:.3g} is beyond float16 "
                    "(65,504). Keep its answers as float32 (tutelage cache --float32), or hear it live "
                    "(train.cache=live)."
                ) from error
            _put(piece, rows, {**columns, SEAL: seal(index, block.view, part, columns)})
            told(len(rows))
    for piece in block.pieces:
        piece.shard.sync()


def _put(piece: Piece, rows: Any, columns: dict[str, Any]) -> None:
    """Write rows, in runs that follow each other."""
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        piece.shard.put(int(rows[run[0]]), {name: array[run[0] : run[-1] + 1] for name, array in columns.items()})
