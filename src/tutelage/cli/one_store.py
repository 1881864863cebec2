"""One store of teachers' answers for all methods of a bench."""

import dataclasses
import pathlib
from collections.abc import Sequence
from dataclasses import replace

from tutelage.cache import estimate
from tutelage.errors import CacheError
from tutelage.recipe.build import build_augment
from tutelage.taps import is_large

from . import cache
from .entrants import Entrant, heard
from .prepare import Prepared
from .show import say


def share_store(built: Sequence[Entrant], out: pathlib.Path) -> tuple[list[Entrant], Prepared | None]:
    """One store for all methods whose taps are vectors; the other teachers are asked live, for the same views.

    What a method computes must not depend on which others are in the table, so that it need not be run again when one
    is added: the views are replayed either way.

    Returns:
        The entrants, and what to fill the store for; None without a store.
    """
    mode = built[0].prepared.recipe.train.cache
    if mode == "live":
        return list(built), None
    settled = [entrant if entrant.method.alone else _replaying(entrant) for entrant in built]
    asking = [entrant for entrant in settled if entrant.prepared.teachers and not entrant.prepared.changes_teachers]
    kept = [entrant for entrant in asking if _vectors(entrant.prepared)]
    store = out / "cache" if mode == "auto" else pathlib.Path(mode)
    union = replace(_kept_in(_union(kept), str(store)), store=store) if kept else None
    if union is not None and mode == "auto" and not _room(union, store):
        kept, union = [], None
    entrants = []
    for entrant in settled:
        stored = entrant in kept or (entrant in asking and _has_maps(entrant.prepared, store, mode))
        placed = _asking(entrant, str(store) if stored else "live")
        entrants.append(replace(placed, step=max(entrant.step - heard(entrant.prepared), 0.0)) if stored else placed)
    return entrants, union


def _has_maps(prepared: Prepared, store: pathlib.Path, mode: str) -> bool:
    """Whether a store of the user's has the maps that a method reads."""
    return mode != "auto" and cache.ready(_kept_in(prepared, mode), store) is not None


def _replaying(entrant: Entrant) -> Entrant:
    """With the number of views written out: what epochs show anew, up to what a store usually has."""
    prepared = entrant.prepared
    data = prepared.recipe.data
    if data.views is not None or build_augment(data, prepared.splits.train) is None:
        return entrant
    views = min(cache.VIEWS, prepared.recipe.train.epochs)
    recipe = prepared.recipe.model_copy(update={"data": data.model_copy(update={"views": views})})
    return replace(entrant, prepared=replace(prepared, recipe=recipe))


def _vectors(prepared: Prepared) -> bool:
    """Whether of the teachers nothing but answers, vectors and the like is read."""
    return not any(is_large(row["teacher"], row["teacher_shape"] or ()) for row in prepared.pairing)


def _union(kept: Sequence[Entrant]) -> Prepared:
    """All teachers at all taps that any method reads."""
    paths = {
        f"{number}-{name}": spec
        for number, entrant in enumerate(kept)
        for name, spec in entrant.prepared.recipe.paths.items()  # type: ignore[union-attr]
    }
    teachers = {name: net for entrant in kept for name, net in entrant.prepared.teachers.items()}
    specs = {name: spec for entrant in kept for name, spec in entrant.prepared.recipe.teachers.items()}
    # A path that hears all teachers hears those of its own method.
    heard = {
        f"{number}-{name}": tuple(entrant.prepared.teachers)
        for number, entrant in enumerate(kept)
        for name in entrant.prepared.recipe.paths
    }
    named = {
        name: spec if spec.teachers is not None or isinstance(spec.teacher, dict) else spec.model_copy(
            update={"teachers": list(heard[name])}
        )
        for name, spec in paths.items()
    }  # fmt: skip
    recipe = kept[0].prepared.recipe.model_copy(update={"paths": named, "teachers": specs})
    return replace(kept[0].prepared, recipe=recipe, teachers=teachers)


def _room(union: Prepared, store: pathlib.Path) -> bool:
    """Whether the answers may take that much of the disk."""
    asked = cache.request(union, store)
    try:
        needed = estimate(asked)
    except CacheError as error:
        say(f"teachers are asked live: their answers are not kept, {error}")
        return False
    if needed.bytes <= min(asked.limit, 0.5 * needed.free):
        return True
    say(f"teachers are asked live: their answers are not kept, they would take {needed.bytes / 1e9:.3g} GB")
    return False


def _kept_in(prepared: Prepared, place: str) -> Prepared:
    train = dataclasses.replace(prepared.recipe.train, cache=place)
    return replace(prepared, recipe=prepared.recipe.model_copy(update={"train": train}))


def _asking(entrant: Entrant, place: str) -> Entrant:
    """The entrant with its teachers' answers from here: a store, or ``live``."""
    return replace(entrant, prepared=_kept_in(entrant.prepared, place))
