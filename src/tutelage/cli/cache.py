"""Teachers' answers on disk: whether a run keeps them, and the command that computes them beforehand."""

import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import torch

from tutelage.cache import Local, OnRay, Record, Request, Store, estimate, write
from tutelage.cache.on_ray import require_ray
from tutelage.cache.writer import linear
from tutelage.engine import processes
from tutelage.engine.hardware import decided
from tutelage.errors import CacheError, RecipeError
from tutelage.ledger import Spec
from tutelage.path import Path, tap_names
from tutelage.recipe.build import build_augment, build_path
from tutelage.teachers import Frozen

from .gather import gather
from .prepare import Prepared, prepare
from .show import say, show_pairing, show_teachers

VIEWS = 4
"""Views of each sample that are kept where the recipe does not say."""


def cache(
    recipe: str | pathlib.Path | Mapping[str, Any] | None = None,
    *,
    student: Any = None,
    teachers: Sequence[Any] | Mapping[str, Any] = (),
    data: Any = None,
    store: str | pathlib.Path,
    assignments: Sequence[str] = (),
    top_k: int | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    maps: bool = False,
    limit: float = 20.0,
    hours: float | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    force: bool = False,
    allow_import: Sequence[str] = (),
    **keys: Any,
) -> dict[str, Any]:
    """Put the teachers' answers on disk; runs with ``train.cache=STORE`` then read them instead of asking.

    What is there already is checked, mended where it is damaged, and not computed again.

    Args:
        recipe: A recipe's path or content; the other arguments win over it.
        student: A model's string or module: it decides which taps are read.
        teachers: Models' strings or modules; a mapping names them.
        data: A path or name, or a data set of ``(picture, label)``.
        store: The folder, which is made.
        assignments: ``key.sub=value``, as after ``--set``; ``data.views`` says how many views are kept.
        top_k: Keep so many logits and spread the rest evenly; None for all.
        dtype: ``"float32"`` for answers beyond 65,504.
        maps: Keep feature maps, too.
        limit: Largest number of gigabytes to write.
        hours: Longest time it may take, by the estimate; None for any.
        engine: ``"ray"`` computes on the workers of a Ray cluster, which must see the store under the same path.
        workers: How many of these; by default one for each of its GPUs, or for each CPU if it has none.
        force: Go on with a teacher near chance.
        allow_import: Packages from which models and parts may be imported.
        **keys: Any top-level key of a recipe.

    Returns:
        ``{"store", "forwards", "bytes", "seconds", "teachers": {name: {"fingerprint", "taps", "views"}}}``.

    Raises:
        CacheError: The store was made for something else, or would be too large or take too long.
        MissingExtra: Ray is not installed.
    """
    processes.alone("cache")
    where = _engine(engine, workers)  # before the work, so that a missing package is said at once
    raw, live = gather(recipe, student=student, teachers=teachers, data=data, assignments=assignments, keys=keys)
    if not raw.get("teachers"):
        raise RecipeError("cache: expected at least one teacher, found none. Give --teacher MODEL[@WEIGHTS].")
    prepared = with_views(prepare(raw, live, allow_import=allow_import, force=force))
    _refuse_patches(prepared, pathlib.Path(store))
    show_teachers(prepared)
    show_pairing(prepared)
    options: dict[str, Any] = {"top_k": top_k, "dtype": dtype, "maps": maps, "limit": limit * 1e9}
    asked = dataclasses.replace(request(prepared, pathlib.Path(store), ("train", "guard", "selection")), **options)
    before = estimate(asked)
    if hours is not None and before.seconds > 3600 * hours:
        raise CacheError(
            f"{store}: expected at most {hours:.3g} hours of teachers' forwards, found {before.seconds / 3600:.3g} by "
            "the estimate. Keep fewer views (data.views), run more machines, or raise --hours."
        )
    began = time.perf_counter()
    # Ray prints what it has to say of its workers on standard output, which is for results.
    with _Bar() as bar, contextlib.redirect_stdout(sys.stderr):
        records = write(asked, engine=where(prepared), say=say, progress=bar)
    say(f"store: {store}    to use it: --set train.cache={store} --set data.views={prepared.recipe.data.views}")
    return {
        "store": str(store),
        "forwards": before.forwards,
        "bytes": before.bytes,
        "seconds": round(time.perf_counter() - began, 2),
        "teachers": {
            name: {
                "fingerprint": record.entry.fingerprint,
                "taps": record.entry.taps,
                "views": dict(record.entry.views),
            }
            for name, record in records.items()
        },
    }


def _engine(name: str, workers: int | None) -> Callable[[Prepared], Local | OnRay]:
    if name == "local" and workers is not None:
        raise CacheError(f"expected one process with the local engine, found {workers} workers. Say --engine ray.")
    if name == "local":
        return lambda prepared: Local()
    if name != "ray":
        raise CacheError(f"expected the engine 'local' or 'ray', found {name!r}.")
    require_ray()
    return lambda prepared: OnRay(workers, gpu=None if _may_use_gpu(prepared) else False, say=say)


def _may_use_gpu(prepared: Prepared) -> bool:
    return prepared.recipe.train.accelerator in ("auto", "gpu", "cuda")


def decide(prepared: Prepared, out: pathlib.Path) -> Prepared:
    """Settle whether this run keeps its teachers' answers, where, and how many views it replays.

    With ``train.cache=auto`` it does where the student would hear its teachers more often than there are views, and
    where there is room; else the teachers are asked live.
    """
    mode = prepared.recipe.train.cache
    if not prepared.teachers or mode == "live":
        return prepared
    if prepared.changes_teachers:
        say(f"teachers are asked live: the scheme {prepared.recipe.scheme.use} changes them")
        return prepared
    if mode == "auto" and prepared.splits.train.ragged:
        say("teachers are asked live: patches are cut anew in every epoch, and their answers are larger than they are")
        return prepared
    settled = with_views(prepared)
    if mode != "auto":
        _refuse_patches(prepared, pathlib.Path(mode))
        return dataclasses.replace(settled, store=pathlib.Path(mode))
    heard = prepared.recipe.train.epochs * prepared.recipe.seeds
    if heard <= (settled.recipe.data.views or 1):
        return prepared
    try:
        asked = request(settled, out / "cache")
        needed = estimate(asked)
        small = needed.bytes <= min(asked.limit, 0.5 * needed.free)
        reason = None if small else f"they would take {needed.bytes / 1e9:.3g} GB"
    except CacheError as error:
        reason = str(error)
    if reason is None:
        return dataclasses.replace(settled, store=out / "cache")
    say(f"teachers are asked live: their answers are not kept, {reason}")
    train = dataclasses.replace(prepared.recipe.train, cache="live")
    return dataclasses.replace(prepared, recipe=prepared.recipe.model_copy(update={"train": train}))


def _refuse_patches(prepared: Prepared, store: pathlib.Path) -> None:
    if prepared.splits.train.ragged:
        raise CacheError(
            f"{store}: expected pictures of one size, found patches of pictures of any size. Answers to them are "
            "larger than they are and are hardly heard twice: keeping them does not pay. Leave train.cache out."
        )


def fill(prepared: Prepared, tell: Callable[[str], None]) -> Prepared:
    """Compute the answers that are missing in the run's store.

    A store of the run's own is looked through; of several processes the first has done so.
    """
    if prepared.store is None:
        return prepared
    began = time.perf_counter()
    own = prepared.recipe.train.cache == "auto" and processes.first()
    records = None if own else ready(prepared, prepared.store)
    if records is None:
        with _Bar() as bar:
            records = write(request(prepared, prepared.store), say=tell, progress=bar)
    return dataclasses.replace(prepared, records=records, answering=time.perf_counter() - began)


def tested(prepared: Prepared, tell: Callable[[str], None]) -> Mapping[str, Record]:
    """The teachers' answers to the test split, kept for the next run beside a store that runs share.

    In a store of their own: samples of the test split are numbered from 0 again.
    """
    if prepared.store is None or prepared.recipe.train.cache == "auto":
        return {}
    asked = request(prepared, prepared.store / "test", ())
    asked = dataclasses.replace(asked, taps={}, slices={"test": prepared.splits.test}, augment=None)
    with _Bar() as bar:
        return write(asked, say=tell, progress=bar)


def with_views(prepared: Prepared) -> Prepared:
    """The number of views written out; without augmentation there is only the clean one."""
    data = prepared.recipe.data
    if data.views is not None or build_augment(data, prepared.splits.train) is None:
        return prepared
    recipe = prepared.recipe.model_copy(update={"data": data.model_copy(update={"views": VIEWS})})
    return dataclasses.replace(prepared, recipe=recipe)


def request(prepared: Prepared, folder: pathlib.Path, parts: Sequence[str] = ("train", "guard")) -> Request:
    """What a run asks a store for: all teachers at all taps its paths read."""
    train, paths = prepared.recipe.train, _paths(prepared)
    taps = _taps(prepared, paths)
    offload = train.offload is not None
    teachers = {
        name: Frozen(network, compile=train.compile, offload=offload) for name, network in prepared.teachers.items()
    }
    for name, teacher in teachers.items():
        teacher.bind(Spec(prepared.task.call, taps, classes=prepared.task.classes, head=prepared.task.head), name)
    _refuse_heads(prepared, paths, teachers)
    slices: dict[str, Any] = {}
    augment = build_augment(prepared.recipe.data, prepared.splits.train)
    for part in parts:
        slice_ = getattr(prepared.splits, part)
        # A selection split of its own is numbered from 0 again: its clean pictures could not be told from others.
        clean = [other for name, other in slices.items() if name != "train" or augment is None]
        if len(slice_) and not any(torch.isin(slice_.index, other.index).any() for other in clean):
            slices[part] = slice_
    cuda = _may_use_gpu(prepared) and torch.cuda.is_available()
    return Request(
        folder=folder,
        teachers=teachers,
        taps=taps,
        fingerprints={name: prepared.fingerprints[f"teacher {name}"] for name in teachers},
        task=prepared.task,
        slices=slices,
        augment=augment,
        views=prepared.recipe.data.views or 1,
        bf16=decided(train.precision, train.accelerator) == "bf16",
        device="cuda" if cuda else "cpu",
    )


def _paths(prepared: Prepared) -> dict[str, Path]:
    """The recipe's paths."""
    assert isinstance(prepared.recipe.paths, dict)
    return {name: build_path(name, spec, prepared.allow_import) for name, spec in prepared.recipe.paths.items()}


def _refuse_heads(prepared: Prepared, paths: Mapping[str, Path], teachers: Mapping[str, Frozen]) -> None:
    """Refuse paths that need more of a teacher, between its answers, than a store keeps."""
    for name, path in paths.items():
        for teacher in (row.teacher for row in path.rows(name, prepared.teachers) if row.teacher is not None):
            if "head" in path.wants and linear(teachers[teacher].head) is None:
                raise CacheError(
                    f"path {name!r}: the student's features go on through the head of teacher {teacher!r}, but a store "
                    "keeps no more of a teacher than a linear classifier. Hear the teachers live (train.cache=live), "
                    "or leave this path out."
                )


def _taps(prepared: Prepared, paths: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """The taps that paths read of each teacher."""
    found: dict[str, dict[str, None]] = {name: {} for name in prepared.teachers}
    for name, path in paths.items():
        for teacher in (row.teacher for row in path.rows(name, prepared.teachers) if row.teacher is not None):
            found[teacher] |= dict.fromkeys(tap_names(path.teacher_tap(teacher)))
    return {name: tuple(tap for tap in taps if tap) for name, taps in found.items()}


def ready(prepared: Prepared, folder: pathlib.Path) -> dict[str, Record] | None:
    """What a store holds of all teachers, however it was kept; None if something is missing."""
    try:
        asked, store = request(prepared, folder), Store(folder)
        records = {name: store.record(asked.fingerprints[name], asked.taps[name]) for name in asked.teachers}
    except CacheError:
        return None
    whole = all(view in record.views(part) for record in records.values() for part, view in asked.wanted())
    same = (
        all(store.manifest.parts[part].fingerprint == s.fingerprint for part, s in asked.slices.items())
        if whole
        else False
    )
    return records if same else None


class _Bar:
    """Progress of the forwards: a bar in a terminal, else a line for every tenth."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._tenth, self._began = 0, time.perf_counter()

    def __enter__(self) -> "_Bar":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._bar.add_task("teachers answer", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, of: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.tasks[0].id, completed=done, total=of)
        elif done * 10 // max(of, 1) > self._tenth:
            self._tenth = done * 10 // of
            left = (time.perf_counter() - self._began) * (of - done) / done
            say(f"  teachers answer: {done / of:.0%}, {left:.0f} s left")
