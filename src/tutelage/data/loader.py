"""Batches of a slice as a pure function of (seed, epoch, step)."""

import hashlib
import json
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tutelage.errors import DataError

from .augment import Augmentation
from .draws import draws
from .slices import Slice

# What a draw is for.
_ORDER, _VIEW = range(2)


class Loader:
    """Gives the batches of a slice; batch (epoch, step) is the same whatever came before it.

    Setting `epoch` and `start` and iterating gives the batches `start` … ``len(loader) - 1`` of that epoch,
    so a run that resumes in the middle of an epoch sees what it would have seen. A *round* is one pass over
    the samples, in an order of its own; an epoch is one round, or several if `steps_per_epoch` asks for more.

    Args:
        slice: What to draw from.
        batch_size: Samples in a batch, over all processes together; each gets ``batch_size // world``.
        seed: Another seed gives another order and other views.
        augment: Applied to each batch; None gives clean pictures, all with view -1.
        shuffle: Draw each round in an order of its own; otherwise in the slice's order.
        drop_last: Leave out the last batch of an epoch if it is not full. Without it, what is left is shared
            out as evenly as it goes, and a process may get nothing.
        views: Number of views of each sample. The view is a function of round and index such that within
            `views` rounds (counted from a multiple of `views`) each sample shows each view once. None: the
            view is the round.
        rank: Number of this process; processes take disjoint parts of each batch.
        world: Number of processes.
        workers: Processes that decode ahead, for slices that are not in memory. No effect on the batches.
        labelled_only: Draw only samples with a label.
        steps_per_epoch: Length of an epoch; samples are drawn again, in a fresh order, as often as it takes.

    Raises:
        DataError: There is not one full batch, or the processes cannot share a batch evenly.

    Example:
        >>> from tutelage.data import Augment
        >>> pictures, labels = torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1, 0])
        >>> slice = Slice(pictures, labels, classes=("a", "b"))
        >>> loader = Loader(slice, batch_size=2, seed=0, augment=Augment(crop=1))
        >>> len(loader), loader.batch(epoch=3, step=1)["view"]
        (2, tensor([3, 3]))
    """

    def __init__(
        self,
        slice: Slice,
        *,
        batch_size: int,
        seed: int,
        augment: Augmentation | None,
        shuffle: bool = True,
        drop_last: bool = True,
        views: int | None = None,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        labelled_only: bool = False,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.slice, self.batch_size, self.seed, self.augment = slice, batch_size, seed, augment
        self.shuffle, self.drop_last, self.views = shuffle, drop_last, views
        self.rank, self.world, self.workers = rank, world, workers
        self.labelled_only, self.steps_per_epoch = labelled_only, steps_per_epoch
        self.epoch, self.start = 0, 0
        self._drawn = slice.labelled.nonzero().flatten() if labelled_only else torch.arange(len(slice))
        self._orders: dict[int, Tensor] = {}
        self._check()

    def _check(self) -> None:
        for name in ("batch_size", "world", "views", "steps_per_epoch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"expected {name} of 1 or more, found {value}.")
        if self.batch_size % self.world or not 0 <= self.rank < self.world:
            raise DataError(
                f"expected a batch_size that {self.world} processes share evenly and a rank below that, "
                f"found batch_size {self.batch_size} and rank {self.rank}. Choose a multiple of {self.world}."
            )
        drawn = len(self._drawn)
        repeats = self.labelled_only and self.steps_per_epoch is not None and drawn > 0
        if (self.drop_last or self.steps_per_epoch is not None) and self.batch_size > drawn and not repeats:
            which = "labelled samples" if self.labelled_only else "samples"
            raise DataError(
                f"expected at least one full batch of {self.batch_size}, found {drawn} {which} to draw from. "
                f"Use a batch_size of {drawn} or less (--set data.batch_size={drawn}), or more data."
                if drawn
                else f"expected {which} to draw from, found none."
            )

    def __len__(self) -> int:
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch
        batches = len(self._drawn) / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        epoch, steps = self.epoch, range(self.start, len(self))
        if self.slice.in_memory or self.workers == 0:
            return (self.batch(epoch, step) for step in steps)
        # The generator keeps torch's own draw for the workers away from the global random numbers.
        ahead = DataLoader(
            _Ahead(self, epoch),
            sampler=steps,
            batch_size=None,
            num_workers=self.workers,
            generator=torch.Generator(),
        )
        return iter(ahead)

    def batch(self, epoch: int, step: int) -> dict[str, Tensor]:
        """One batch, or this process's part of it.

        Args:
            epoch: 0 or more.
            step: 0 … ``len(loader) - 1``.

        Returns:
            As `Slice.batch`.

        Raises:
            IndexError: There is no such step.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"expected a step in 0 to {len(self) - 1}, found {step}.")
        positions, round_ = self._draw(epoch, step)
        return self.slice.batch(positions, self.augment, self._view(self.slice.index[positions], round_))

    def _draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Positions in the slice of this process's samples, and the round each was drawn in."""
        drawn = len(self._drawn)
        end = (step + 1) * self.batch_size
        last = end if self.steps_per_epoch is not None else min(end, drawn)
        rows = torch.arange(step * self.batch_size, last).tensor_split(self.world)[self.rank]
        rounds_per_epoch = math.ceil(len(self) * self.batch_size / drawn) if self.steps_per_epoch else 1
        round_ = epoch * rounds_per_epoch + rows // drawn
        positions = torch.empty_like(rows)
        for one in sorted(set(round_.tolist())):
            here = round_ == one
            positions[here] = self._order(one)[rows[here] % drawn]
        return positions, round_

    def _order(self, round_: int) -> Tensor:
        if not self.shuffle:
            return self._drawn
        if round_ not in self._orders:
            while len(self._orders) >= 2:
                del self._orders[next(iter(self._orders))]
            keys = draws(self.seed, _ORDER, round_, self.slice.index[self._drawn])
            self._orders[round_] = self._drawn[keys.argsort(stable=True)]
        return self._orders[round_]

    def _view(self, index: Tensor, round_: Tensor) -> Tensor:
        if self.views is None:
            return round_
        cycle, turn = round_ // self.views, round_ % self.views
        keys = draws(self.seed, _VIEW, cycle[:, None], index[:, None], torch.arange(self.views))
        return keys.argsort(dim=1, stable=True).gather(1, turn[:, None])[:, 0]

    @property
    def fingerprint(self) -> str:
        """sha256 over all that decides the batches of all processes together."""
        told = {
            "slice": self.slice.fingerprint,
            "augment": self.augment.fingerprint if self.augment else None,
            **{name: getattr(self, name) for name in _TOLD},
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


_TOLD = ("batch_size", "seed", "shuffle", "drop_last", "views", "world", "labelled_only", "steps_per_epoch")


class _Ahead(Dataset[dict[str, Tensor]]):
    """The batches of one epoch, for torch's own workers."""

    def __init__(self, loader: Loader, epoch: int) -> None:
        self._loader, self._epoch = loader, epoch

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return self._loader.batch(self._epoch, step)
