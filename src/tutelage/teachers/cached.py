"""Cached: a teacher whose answers were computed before and are read from disk."""

import pathlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.cache import Record, Store
from tutelage.errors import CacheError
from tutelage.ledger import Batch, Outputs, Spec

from .base import Teacher


class Cached(Teacher):
    """A teacher that answers from a store: a few microseconds a sample instead of a forward.

    The batches have to replay what was stored: the same slice, the same augmentation, ``Loader(views=V)`` with no more
    views than there are. What does not match is refused when the distiller is built, and every row is checked when
    it is read.

    Args:
        source: A store's folder, or the answers of one teacher in it.
        teacher: Its fingerprint, or the name it was written under; None: the name it has among the teachers.

    Raises:
        CacheError: There is no such store.
    """

    def __init__(self, source: Record | Store | pathlib.Path | str, teacher: str | None = None) -> None:
        super().__init__()
        given = isinstance(source, Record | Store)
        self._source: Record | Store = source if given else Store(source)  # type: ignore[assignment, arg-type]
        self._teacher = teacher

    @property
    def head(self) -> nn.Module | None:
        """The classifier that was stored with the answers; None if there was none."""
        found: Any = self.__dict__["network"]
        return found if isinstance(found, nn.Module) else None

    def bind(self, spec: Spec, name: str) -> None:
        """Find the answers, and compare what they were made from with what will be asked.

        Raises:
            CacheError: Says what differs.
        """
        taps, told = spec.taps[name], spec.fingerprints
        record = self._source
        if isinstance(record, Store):
            record = record.record(self._teacher or told.get(f"teacher {name}", name), taps)
        self._record = record
        self._compare(name, told, taps)
        # The base class moves what is kept here from device to device and out of every checkpoint.
        self.__dict__["network"] = record.head

    def _compare(self, name: str, told: Mapping[str, str], taps: tuple[str, ...]) -> None:
        entry, manifest = self._record.entry, self._record.store.manifest
        lacks = [key for key in ("data", "augment") if key not in told]
        if lacks:
            raise CacheError(
                f"teacher {name!r}: expected the fingerprints of data and augmentation, to compare them with the "
                f"store's; found none for {' and '.join(lacks)}. Give the Distiller fingerprints={{'data': "
                "slice.fingerprint, 'augment': augment.fingerprint} ('none' without augmentation)."
            )
        stored = {
            f"teacher {name}": entry.fingerprint,
            "data": manifest.parts["train"].fingerprint,
            "augment": manifest.augmentation,
        }
        differs = [
            f"{_WORDS.get(key, _TEACHER)}: stored {value[:16]}, now {told[key][:16]}"
            for key, value in stored.items()
            if told.get(key, value) != value
        ]
        if missing := [tap for tap in taps if tap not in entry.taps]:
            differs.append(
                f"taps: stored {', '.join(filter(None, entry.taps)) or 'none'}; asked for {', '.join(missing)}"
            )
        views, asked = self._record.views(), int(told.get("views", 0))
        if lacking := [view for view in range(asked) if view not in views]:
            differs.append(f"views: stored {list(views)}, lacking {lacking}")
        if differs:
            raise CacheError(
                f"teacher {name!r}: the answers in {self._record.store.folder} are not those of this run. "
                f"{'; '.join(differs)}. Restore it, or compute the answers anew: tutelage cache."
            )

    def forward(self, batch: Batch, peers: Mapping[str, Outputs]) -> Outputs:
        """Read the answers to a batch.

        Raises:
            CacheError: The pictures are mixed; a sample or view is not there; a row is damaged.
        """
        if (mixed := batch.extras.get("mixed")) is not None and mixed is not False:
            how = mixed if isinstance(mixed, str) else "mixup or CutMix"
            raise CacheError(
                f"the answers of {self._record.entry.name!r} belong to single pictures; this batch is mixed ({how}). "
                "Hear the teacher live (train.cache=live), or do not mix."
            )
        device = batch.inputs.device
        rows = self._record.rows(batch.index, batch.view)
        return rows if device.type == "cpu" else {tap: said.to(device, non_blocking=True) for tap, said in rows.items()}


_TEACHER = "the teacher (weights, normalisation or class order)"
_WORDS = {"data": "the training slice", "augment": "the augmentation"}
