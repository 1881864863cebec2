"""On Ray: blocks are filled by the workers of a cluster, which all see the store's folder.

A worker is an actor that holds the teachers. This process plans, gives each worker a block at a time, and never lets
go of the manifest. A worker that dies loses its place and not its rows: the next one to get its block reads from the
seals which rows are whole, and goes on.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
import pickle
import signal
import socket
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch

from tutelage.errors import CacheError, MissingExtra

from .fill import Block, Blocks, Told, fill
from .manifest import FILE, Manifest
from .request import Piece, Request

BLOCKS_A_WORKER = 4
"""A new store has at least so many, where there are samples enough: the last worker to finish is not long alone."""

SMALLEST = 4096
"""Rows in a shard of a new store, at least."""

DEATHS = 3
"""So often a worker may die over one block."""

VISIBLE = 90.0
"""Seconds after which a file that a worker wrote must be there for this process: longer than NFS remembers a miss."""

PATIENCE = 30.0
"""Seconds without a worker after which that is said."""


def require_ray() -> Any:
    """The package.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("answers on many machines need Ray: pip install 'tutelage[ray]'") from error
    return ray


class OnRay:
    """Fills blocks on the workers of a Ray cluster: the one that is connected or found, else one of this machine.

    The answers are those of `Local` with one thread, bit for bit, on processors of one kind.

    Args:
        workers: How many; by default one for each GPU of the cluster, or for each CPU if it has none. With more
            workers than GPUs, several share one: so decoding keeps up with a fast teacher.
        gpu: Whether teachers compute on GPUs; by default where the cluster has any.
        say: Told how many workers there are, and when one is lost.

    Raises:
        MissingExtra: Ray is not installed.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        gpu: bool | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._ray = require_ray()
        self._workers, self._gpu, self._say = workers, gpu, say
        self._started = False

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            handler = signal.getsignal(signal.SIGTERM)
            try:
                self._ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
            except ConnectionError as error:
                raise CacheError(
                    f"expected a Ray cluster, found: {error}. Start one (ray start --head), set RAY_ADDRESS to one "
                    "that runs, or unset it."
                ) from error
            finally:
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, handler)  # which Ray replaces by one of its own
            self._started = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started:
            self._ray.shutdown()
            self._started = False

    @property
    def gpu(self) -> bool:
        """Whether teachers compute on GPUs."""
        return self._gpu if self._gpu is not None else self._has("GPU") > 0

    @property
    def workers(self) -> int:
        """How many there are at most."""
        return self._workers or max(1, self._has("GPU" if self.gpu else "CPU"))

    @property
    def gpu_share(self) -> float:
        """How much of a GPU each worker has: one, or so much that all find a place."""
        return 1 / -(-self.workers // max(1, self._has("GPU"))) if self.gpu else 0.0

    def _has(self, resource: str) -> int:
        return int(self._ray.cluster_resources().get(resource, 0))

    def suited(self, request: Request) -> Request:
        """With a path that means the same everywhere and, for a new store, shards enough for all workers.

        A shard holds whole batches, so that every sample is in the same batch as in a local run.
        """
        folder = request.folder.absolute()
        if (folder / FILE).exists():
            return dataclasses.replace(request, folder=folder)
        samples = sum(len(request.slices[part]) for part, _ in request.wanted())
        rows = max(SMALLEST, samples // (BLOCKS_A_WORKER * self.workers))
        rows = -(-rows // request.batch_size) * request.batch_size
        return dataclasses.replace(request, folder=folder, rows=min(request.rows, rows))

    def fill(self, request: Request, manifest: Manifest, blocks: Sequence[Block], told: Told) -> Blocks:
        """Fill blocks in the order in which workers finish them.

        Raises:
            CacheError: The workers cannot open the teachers or the data, they do not see the folder, or one block has
                cost too many of them their life.
        """
        if not blocks:
            return
        crew = _Crew(self._ray, request, manifest, gpu=self.gpu_share, told=told, say=self._say)
        count = min(self.workers, len(blocks))
        gpus = f", {self.gpu_share:.3g} of a GPU each" if self.gpu else ""
        self._say(f"Ray: {count} workers{gpus}; the time above is for one alone")
        try:
            yield from crew.fill(blocks, count)
        finally:
            crew.dismiss()


class Worker:
    """Fills blocks in a process of its own. It holds the teachers and, so far as it is in memory, the data."""

    def open(self, order: bytes, cwd: str, path: Sequence[str], probe: str) -> str:
        """Take the teachers, and show that this machine sees the store; says on which machine.

        Raises:
            CacheError: Something is not there on this machine.
        """
        host = socket.gethostname()
        torch.set_num_threads(1)
        if os.path.isdir(cwd):
            os.chdir(cwd)
        sys.path += [place for place in path if place not in sys.path]
        try:
            self._request, self._manifest = pickle.loads(order)
        except (ImportError, AttributeError) as error:
            raise CacheError(
                f"expected the code of teachers and data on every machine, found on {host}: {error}. Install there "
                "what is installed here, in the same versions."
            ) from error
        for teacher in self._request.teachers.values():
            teacher.to(self._request.device)
        try:
            (self._request.folder / probe).write_text(probe, encoding="utf-8")
        except OSError as error:
            raise CacheError(_not_shared(self._request.folder, host, f"it cannot write: {error.strerror}")) from error
        return host

    def fill(self, block: Block) -> int:
        """Fill a block; says how many forwards that took."""
        forwards: list[int] = []
        fill(self._request, self._manifest, block, forwards.append)
        return sum(forwards)


@dataclasses.dataclass(frozen=True)
class _Hand:
    """A worker, the file it has shown us that it writes, and the block it has in hand."""

    actor: Any
    probe: str
    host: str = "a machine of the cluster"
    block: Block | None = None


class _Crew:
    """The workers, who does what, and what nobody does yet."""

    def __init__(self, ray: Any, request: Request, manifest: Manifest, *, gpu: float, told: Told, say: Any) -> None:
        self._ray, self._request, self._manifest, self._told, self._say = ray, request, manifest, told, say
        self._make = ray.remote(Worker).options(num_cpus=1, num_gpus=gpu, scheduling_strategy="SPREAD")
        self._order = ray.put(_packed(ray, request, manifest, "cuda" if gpu else "cpu"))
        self._busy: dict[Any, _Hand] = {}
        self._idle: list[_Hand] = []
        self._waiting: deque[Block] = deque()
        self._deaths: Counter[tuple[str, int, int] | None] = Counter()

    def fill(self, blocks: Sequence[Block], count: int) -> Blocks:
        self._waiting.extend(blocks)
        for _ in range(count):
            self._hire()
        left, warned = len(blocks), False
        while left:
            while self._waiting and self._idle:
                self._give(self._idle.pop(), self._waiting.popleft())
            done, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=PATIENCE)
            if not done:
                if not warned and all(hand.block is None for hand in self._busy.values()):
                    self._say(f"Ray: no worker yet; the cluster has {self._ray.available_resources()} free")
                    warned = True
                continue
            block = self._heard(done[0])
            if block is not None:
                left -= 1
                yield block

    def dismiss(self) -> None:
        """Let all workers go, and take away what they wrote to be seen."""
        for hand in (*self._busy.values(), *self._idle):
            self._ray.kill(hand.actor)
            with contextlib.suppress(OSError):
                (self._request.folder / hand.probe).unlink(missing_ok=True)

    def _hire(self) -> None:
        hand = _Hand(self._make.remote(), f".probe-{uuid.uuid4().hex}")
        self._busy[hand.actor.open.remote(self._order, os.getcwd(), sys.path, hand.probe)] = hand

    def _give(self, hand: _Hand, block: Block) -> None:
        self._busy[hand.actor.fill.remote(block)] = dataclasses.replace(hand, block=block)

    def _heard(self, answer: Any) -> Block | None:
        """Take a worker's answer; the block that is finished, if one is."""
        hand, errors = self._busy.pop(answer), self._ray.exceptions
        try:
            found = self._ray.get(answer)
        except errors.RayTaskError as error:
            self._idle.append(hand)  # it lives: what went wrong would go wrong again
            raise (error.cause or error) from error
        except errors.RayError as error:
            self._lost(hand, error)
            return None
        if hand.block is None:
            self._check_seen(hand.probe, found)
            self._idle.append(dataclasses.replace(hand, host=found))
            self._deaths.pop(None, None)
            return None
        self._check_filled(hand)
        self._told(found)
        self._idle.append(dataclasses.replace(hand, block=None))
        return hand.block

    def _lost(self, hand: _Hand, error: Exception) -> None:
        """A worker is dead or out of reach: its block goes to another."""
        self._ray.kill(hand.actor)  # if it is only out of reach, it must not write any more
        (self._request.folder / hand.probe).unlink(missing_ok=True)
        block = hand.block
        where = None if block is None else (block.part, block.view, block.first)
        self._deaths[where] += 1
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        doing = "while it loaded the teachers" if block is None else f"at samples {block.first}… of {block.part}"
        if self._deaths[where] > DEATHS:
            raise CacheError(
                f"{self._request.folder}: {self._deaths[where]} workers died {doing}, the last with: {what} "
                "What is done is kept. Look into Ray's logs, give workers more memory or fewer samples at once, and "
                "give the same command again."
            ) from error
        self._say(f"Ray: lost a worker on {hand.host} {doing}; another goes on ({what})")
        if block is not None:
            again = block.again(self._request, self._manifest)
            self._told(block.forwards - again.forwards)
            self._waiting.appendleft(again)
        if not self._idle:
            self._hire()

    def _check_seen(self, probe: str, host: str) -> None:
        place = self._request.folder / probe
        if not _within(VISIBLE / 9, place.exists):
            raise CacheError(_not_shared(self._request.folder, host, "what it wrote does not appear here"))
        place.unlink()

    def _check_filled(self, hand: _Hand) -> None:
        assert hand.block is not None
        for piece in hand.block.pieces:
            if not _within(VISIBLE, partial(_whole, piece)):
                problem = f"{piece.shard.path.name}, which it filled, {piece.shard.broken()}"
                raise CacheError(_not_shared(self._request.folder, hand.host, problem))


def _packed(ray: Any, request: Request, manifest: Manifest, device: str) -> bytes:
    """What every worker needs, with the teachers' weights on the CPU."""
    for teacher in request.teachers.values():
        teacher.to("cpu")
    try:
        packed: bytes = ray.cloudpickle.dumps((dataclasses.replace(request, device=device), manifest))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise CacheError(
            f"expected teachers and data that can be sent to other machines, found: {error}. Give models and data by "
            "name, or leave out what cannot be pickled."
        ) from error
    finally:
        for teacher in request.teachers.values():
            teacher.to(request.device)
    return packed


def _not_shared(folder: pathlib.Path, host: str, found: str) -> str:
    return (
        f"{folder}: expected a folder that this machine and the worker on {host} share, found: {found}. Put the store "
        "on a file system that all machines mount under the same path."
    )


def _whole(piece: Piece) -> bool:
    return piece.shard.broken() is None


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
