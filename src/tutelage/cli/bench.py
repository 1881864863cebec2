"""Bench: methods with one budget on your data, ranked by what they reached on the test split."""

import errno
import json
import pathlib
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutelage.bench import Results
from tutelage.bench.methods import PLAIN
from tutelage.bench.results import FAILED, FILE, pack
from tutelage.cache import estimate
from tutelage.engine import processes
from tutelage.engine.journal import Journal
from tutelage.errors import InputError, Interrupted, RecipeError, RunError
from tutelage.verdict import value

from . import cache, runfolder
from .board import REQUEST, SCHEMA, Board
from .distill import is_live
from .entrants import Entrant, build, lines
from .gather import gather
from .one_store import share_store
from .prepare import Prepared, prepare
from .show import say, show_teachers

USUAL = (PLAIN, "kd", "auto")
"""Methods that are compared where neither the command nor the recipe names any."""


def bench(
    recipe: str | pathlib.Path | Mapping[str, Any] | None = None,
    *,
    student: Any = None,
    teachers: Sequence[Any] | Mapping[str, Any] = (),
    data: Any = None,
    out: str | pathlib.Path,
    methods: Sequence[str] = (),
    seeds: int | None = None,
    against: str = PLAIN,
    leave_one_out: bool = False,
    skip_refused: bool = False,
    budget: float | None = None,
    assignments: Sequence[str] = (),
    resume: bool = False,
    dry_run: bool = False,
    force: bool = False,
    allow_import: Sequence[str] = (),
    **keys: Any,
) -> dict[str, Any]:
    """Train the student once for each method and seed, with one budget, and rank the methods.

    All methods of a seed start from the same weights and see the same samples in the same order, for as many steps. All
    are built and rehearsed before the first is trained. What is finished is not run again, whatever the order or the
    other methods; an interrupted run goes on where it was, and one that failed is tried again from the start.

    Args:
        recipe: A recipe's path or content; the other arguments win over it. Under ``methods:`` it may name methods of
            its own.
        student: A model's string or module.
        teachers: Models' strings or modules; a mapping names them.
        data: A path or name, or a data set of ``(picture, label)``.
        out: The folder of the results, which is made.
        methods: Names for `tutelage.bench.read_method`; by default those of the recipe, else plain, kd and auto.
        seeds: How many seeds; 3 by default.
        against: A method that all are compared with, beside plain.
        leave_one_out: Also run the first method that hears teachers without each teacher and without each path.
        skip_refused: Go on without methods that cannot be built.
        budget: Longest time in hours that the runs still to be done may take, by the estimate; None for any.
        assignments: ``key.sub=value``, as after ``--set``.
        resume: Go on with what `out` was asked for; other arguments are not needed then.
        dry_run: Build and rehearse everything, print the estimate, train nothing.
        force: Go on with a teacher near chance.
        allow_import: Packages from which models and parts may be imported.
        **keys: Any top-level key of a recipe.

    Returns:
        The content of bench.json.

    Raises:
        InputError: Something given cannot be used, or a method cannot be built; nothing was trained.
        RunError: Some runs could not be finished, after all others were.
        Interrupted: A signal stopped it; the same command, or `resume`, goes on.
    """
    processes.alone("bench")
    out = pathlib.Path(out)
    asked: dict[str, Any] = {
        "methods": list(methods),
        "seeds": seeds,
        "against": against,
        "leave_one_out": leave_one_out,
    }
    live: dict[str, Any]
    if resume:
        given = {"recipe": recipe, "--student": student, "--teacher": teachers, "--data": data, "--set": assignments}
        raw, asked = _asked_before(out, given | {"--methods": methods, "--seeds": seeds} | keys)
        skip_refused = skip_refused or bool(asked.get("skip_refused"))
        live = {}
    else:
        _claim(out)
        raw, live = gather(recipe, student=student, teachers=teachers, data=data, assignments=assignments, keys=keys)
    asked["skip_refused"] = skip_refused
    names = list(dict.fromkeys(asked["methods"] or raw.get("methods") or USUAL))
    first = prepare(_shared(raw), live, allow_import=allow_import, force=force or resume, rehearse=False)
    show_teachers(first)
    if not bool(first.splits.train.labelled.any()):
        asked["against"] = names[0] if asked["against"] == PLAIN else asked["against"]
    elif PLAIN not in names:
        names.insert(0, PLAIN)
    if asked["against"] not in names:
        told = ", ".join(names)
        raise InputError(f"--against {asked['against']}: expected one of the methods ({told}). Add it to --methods.")
    built, refused = build(first, raw, names, leave_one_out=asked["leave_one_out"])
    _tell_refused(refused, skip=skip_refused)
    if asked["against"] not in {entrant.name for entrant in built}:
        raise InputError(f"--against {asked['against']}: this method cannot be built here. Name another.")
    board = Board(out, raw, asked | {"names": names}, refused)
    built, union = share_store(built, out)
    board = board.of(built)
    _tell_estimate(board, union, budget)
    _tell_versions(board)
    if dry_run:
        return board.content()
    line = runfolder.resume_line(out, "bench", allow_import, live=is_live(student, teachers, data))
    try:
        with runfolder.writing(out, line):
            board.begin()
            if union is not None and board.left():
                cache.fill(union, say)
            failed = _run_all(board)
            content = board.finish()
    except (Interrupted, KeyboardInterrupt) as error:
        stopped = str(error) or "stopped by a signal"
        raise Interrupted(f"{stopped}. To go on: {line}") from error
    if failed:
        it = "it" if len(failed) == 1 else "them"
        raise RunError(
            f"{_count(len(failed), 'run')} of the table could not be finished:\n{lines(failed)}\n"
            f"The same command tries {it} again, from the start: change what makes {it} fail, or leave out the method."
        )
    return content


def _claim(out: pathlib.Path) -> None:
    """Refuse a folder that holds something else; results alone can be gone on with."""
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out}: expected a folder, found a file. Choose another name.")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in (REQUEST, FILE)):
        raise RunError(
            f"--out {out}: expected a new folder or one of tutelage bench, found other files in it. Choose another "
            "folder."
        )


def _asked_before(out: pathlib.Path, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe and the request of a bench that is resumed."""
    extra = [name for name, value in given.items() if value]
    if extra:
        raise InputError(
            f"--resume goes on with what {out} was asked for; it takes no {', '.join(extra)}. Leave --resume out: what "
            "is finished is not run again."
        )
    try:
        told = json.loads((out / REQUEST).read_text(encoding="utf-8"))
        return dict(told.pop("recipe")), {name: told[name] for name in told if name != "schema"}
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"--resume: expected a bench in {out} (a {REQUEST}), found none that can be read. Leave --resume out and "
            "give methods, student, teachers and data."
        ) from error


def _shared(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe by which data and models are opened, without what methods differ in."""
    kept = {name: value for name, value in raw.items() if name not in ("methods", "weighting", "scheme")}
    return kept | {"baseline": False, "seeds": 1, "paths": []}


def _tell_refused(refused: Mapping[str, str], *, skip: bool) -> None:
    if not refused:
        return
    told = f"{len(refused)} method(s) cannot be built:\n{lines(refused)}"
    if not skip:
        raise RecipeError(f"{told}\nTo go on without them: --skip-refused.")
    say(f"left out: {told}")


def _tell_estimate(board: Board, union: Prepared | None, budget: float | None) -> None:
    left = board.left()
    answers = 0.0
    if union is not None and union.store is not None and left:
        answers = estimate(cache.request(union, union.store)).seconds
    seconds = answers + sum(entrant.seconds() for entrant, _ in left)
    total = len(board.entrants) * len(board.seeds)
    teachers = f", the teachers' answers {_long(answers)} of it" if answers >= 1 else ""
    methods = f"{_count(len(board.entrants), 'method')} x {_count(len(board.seeds), 'seed')} = {_count(total, 'run')}"
    say(f"bench: {methods}, {total - len(left)} done; the others take about {_long(seconds)}{teachers}")
    for method, seed in board.lost():
        say(f"{method}, seed {seed}: left out, its scores hold NaN or infinity")
    if failed := {f"{method}, seed {seed}": reason for (method, seed), reason in board.failed().items()}:
        tried = "is tried" if len(failed) == 1 else "are tried"
        say(f"{_count(len(failed), 'run')} failed before and {tried} again:\n{lines(failed)}")
    if budget is not None and seconds > 3600 * budget:
        raise InputError(
            f"--budget: expected at most {budget:.3g} hours, found {seconds / 3600:.3g} by the estimate. Take fewer "
            "methods, seeds or epochs, or raise --budget."
        )


def _tell_versions(board: Board) -> None:
    """Defaults may differ between versions, and a recipe does not name them all."""
    here = runfolder.versions().get("tutelage")
    theirs = Counter(line["versions"].get("tutelage", "unknown") for line in board.found().values())
    others = [f"{_count(runs, 'run')} by tutelage {version}" for version, runs in theirs.items() if version != here]
    if others:
        say(
            f"bench: {', '.join(others)}, this is {here}. Defaults may have changed in between: to compare like with "
            "like, start in another folder."
        )


def _run_all(board: Board) -> dict[str, str]:
    """All that is left; gives the runs that failed, with the reason: one that diverges does not stop the others."""
    import tutelage.engine.run  # noqa: F401  Lightning takes seconds to import, which are no run's

    results, left = Results(board.folder), board.left()
    late = 0.0  # seconds that the runs so far took beyond the estimate
    total = len(board.entrants) * len(board.seeds)
    failed: dict[str, str] = {}
    for done, (entrant, seed) in enumerate(left):
        runs = len(left) - done
        more = sum(other.seconds() for other, _ in left[done:]) + (late / done * runs if done else 0.0)
        place = f"{total - runs + 1}/{total}"
        say(f"[{place}] {entrant.name}, seed {seed}; about {_long(max(more, 0.0))} left for the whole table")
        began = time.perf_counter()
        try:
            results.append(_run(board, entrant, seed, f"{entrant.name} seed {seed} {place}"))
        except RunError as error:
            reason = error.__cause__
            if isinstance(reason, OSError) and reason.errno != errno.EINVAL:  # the disk's fault; EINVAL: a damaged file
                raise
            failed[f"{entrant.name}, seed {seed}"] = str(error)
            say(f"left out: {entrant.name}, seed {seed}: {error}")
            _set_aside(board, entrant, seed, str(error))
        board.save()
        late += time.perf_counter() - began - entrant.seconds()
    return failed


def _set_aside(board: Board, entrant: Entrant, seed: int, reason: str) -> None:
    """Write down why a run failed, and move its folder, so that the next try begins anew."""
    told = {"method": entrant.name, "seed": seed, "key": entrant.key, "data": board.data, "reason": reason}
    Results(board.folder, FAILED).append(told)
    folder = board.run_folder(entrant, seed)
    aside = folder.with_name(f"{folder.name}-failed")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)


def _run(board: Board, entrant: Entrant, seed: int, title: str) -> dict[str, Any]:
    """One method, one seed: its line of results.jsonl.

    Raises:
        RunError: It diverged, or its scores are no numbers.
    """
    from tutelage.engine.run import trial  # Lightning takes seconds to import; a wrong argument should not wait

    prepared, folder = entrant.run(seed), board.run_folder(entrant, seed)
    if not (folder / "recipe.yaml").exists():
        runfolder.create(folder, prepared, runfolder.argv())
    journal = Journal(folder, title)
    if prepared.teachers and prepared.recipe.train.cache != "live":
        prepared = cache.fill(replace(prepared, store=pathlib.Path(prepared.recipe.train.cache)), journal.say)
    done = trial(prepared.plan(folder), journal, taught=entrant.taught)
    scores = done.said.scores(prepared.task)
    if lost := int((~scores.reshape(len(scores), -1).isfinite().all(dim=1)).sum()):
        raise RunError(
            f"expected a finite score for every test sample, found NaN or infinity for {lost} of {len(scores)}. Lower "
            "train.lr, or leave paths out."
        )
    epochs = prepared.recipe.train.epochs
    line: dict[str, Any] = {
        "schema": SCHEMA,
        "method": entrant.name,
        "seed": seed,
        "key": entrant.key,
        "data": board.data,
    }
    line |= {"test": value(scores, prepared.task.parts), "validation": done.trained.history[done.trained.best_epoch]}
    line |= {"scores": pack(scores), "steps": done.trained.steps, "epochs": epochs}
    line |= {"seconds": round(done.trained.seconds, 2), "live": not prepared.records and bool(prepared.teachers)}
    paths = {path: weight for path, weight in done.paths.items() if path in prepared.recipe.paths}
    line |= {"weights": {"teachers": dict(done.teachers), "paths": paths}, "notes": list(done.notes)}
    manifest = runfolder.manifest(prepared, runfolder.argv())
    return line | {name: manifest[name] for name in ("date", "versions", "hardware")}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _long(seconds: float) -> str:
    from tutelage.report.units import seconds as written

    return written(seconds)
