"""Bench: methods with one budget on your data, ranked by what they reached on the test split."""

import contextlib
import json
import pathlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tutelage.bench import Results, leaderboard
from tutelage.bench.leaderboard import left_out
from tutelage.bench.methods import PLAIN
from tutelage.bench.results import FILE, pack
from tutelage.cache import estimate
from tutelage.engine import processes
from tutelage.engine.journal import Journal
from tutelage.engine.results import write_json, write_tensors
from tutelage.errors import InputError, Interrupted, RecipeError, RunError
from tutelage.verdict import value

from . import cache, runfolder
from .distill import is_live
from .entrants import Entrant, build, lines
from .gather import gather
from .one_store import share_store
from .prepare import Prepared, prepare
from .show import say, show_teachers

REQUEST, BOARD = "request.json", "bench.json"
SCHEMA = 1
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
    other methods; an interrupted run goes on where it was.

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
        raise RunError(f"{_count(len(failed), 'run')} of the table could not be finished:\n{lines(failed)}")
    return content


@dataclass(frozen=True)
class Board:
    """What is compared, and what is known so far.

    Args:
        folder: Where the results are.
        raw: The recipe that all share.
        asked: Methods, seeds and the like, as they were asked for.
        refused: Methods that cannot be built, with the reason.
        entrants: Methods that can.
    """

    folder: pathlib.Path
    raw: Mapping[str, Any]
    asked: Mapping[str, Any]
    refused: Mapping[str, str]
    entrants: tuple[Entrant, ...] = ()

    def of(self, entrants: Sequence[Entrant]) -> "Board":
        """The same with these entrants."""
        return replace(self, entrants=tuple(entrants))

    @property
    def seeds(self) -> list[int]:
        """The seeds of every method."""
        start = int((self.raw.get("train") or {}).get("seed", 0))
        return list(range(start, start + int(self.asked["seeds"] or self.raw.get("seeds") or 3)))

    @property
    def first(self) -> Prepared:
        """Any of the runs: what all share."""
        return self.entrants[0].prepared

    @property
    def data(self) -> str:
        """The fingerprint of the data."""
        return self.first.splits.fingerprint

    def found(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The finished runs."""
        keys = [(entrant.name, seed, entrant.key) for entrant in self.entrants for seed in self.seeds]
        return Results(self.folder).found(keys, self.data)

    def left(self) -> list[tuple[Entrant, int]]:
        """Runs to be done, seed by seed: after the first seed there is a whole table."""
        done = self.found()
        pairs = [(entrant, seed) for seed in self.seeds for entrant in self.entrants]
        return [(entrant, seed) for entrant, seed in pairs if (entrant.name, seed) not in done]

    def begin(self) -> None:
        """Write down what was asked for, so that it can be gone on with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / REQUEST, {"schema": SCHEMA, "recipe": self.raw, **self.asked})
        if self.groups is not None:
            write_tensors(self.folder / f"targets-{self.data[:8]}.safetensors", {"target": self.groups})

    @property
    def groups(self) -> torch.Tensor | None:
        """The class of each test sample that has one."""
        test = self.first.splits.test
        return None if test.mapped or not test.classes else test.labels[test.labelled]

    def run_folder(self, entrant: Entrant, seed: int) -> pathlib.Path:
        """Where one run is; another recipe under the same name has another folder."""
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in entrant.name)
        return self.folder / "runs" / f"{name}-seed{seed}-{entrant.key[:8]}"

    def content(self) -> dict[str, Any]:
        """What bench.json holds."""
        task, found = self.first.task, self.found()
        options: dict[str, Any] = {"higher_is_better": task.higher_is_better}
        test = self.first.splits.test
        blocks = None if test.blocks is None else test.blocks[test.labelled]
        options |= {"groups": self.groups, "blocks": blocks, "parts": task.parts}
        own = [entrant.name for entrant in self.entrants if entrant.part is None]
        parts = [(*entrant.part, entrant.name) for entrant in self.entrants if entrant.part is not None]
        rows = leaderboard(found, own, against=(PLAIN, self.asked["against"]), **options)
        whole = self.whole
        runs = {
            entrant.name: [str(self.run_folder(entrant, seed).relative_to(self.folder)) for seed in self.seeds]
            for entrant in self.entrants
        }
        return {
            "schema": SCHEMA,
            "task": task.name,
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "finished": len(found) == len(self.entrants) * len(self.seeds),
            "runs_done": len(found),
            "runs": len(self.entrants) * len(self.seeds),
            "seeds": self.seeds,
            "against": self.asked["against"],
            "leaderboard": rows,
            "leave_one_out": left_out(found, whole, parts, **options) if whole is not None else [],
            "whole": whole if parts else None,
            "refused": dict(self.refused),
            "teachers": {name: {"validation": told.validation} for name, told in self.examined.items()},
            "data": {"guess": self.first.splits.guess, "fingerprint": self.data},
            "folders": runs,
            "command": " ".join(runfolder.argv()),
            "versions": runfolder.versions(),
            "hardware": runfolder.hardware(),
        }

    @property
    def whole(self) -> str | None:
        """The method of which parts are left out."""
        return next((e.name for e in self.entrants if e.part is None and not e.method.alone), None)

    @property
    def examined(self) -> Mapping[str, Any]:
        """What is known of all teachers."""
        return {name: told for entrant in self.entrants for name, told in entrant.prepared.examined.items()}

    def save(self) -> dict[str, Any]:
        """Write bench.json anew."""
        content = self.content()
        write_json(self.folder / BOARD, content)
        return content

    def finish(self) -> dict[str, Any]:
        """The table, and the page."""
        from tutelage.report import write_bench

        content = self.save()
        if content["leave_one_out"]:
            first = next(entrant for entrant in self.entrants if entrant.name == content["whole"])
            told = {"metric": content["metric"], "method": content["whole"], "parts": content["leave_one_out"]}
            for folder in (self.run_folder(first, seed) for seed in self.seeds):
                if folder.is_dir():
                    write_json(folder / "leave_one_out.json", told)
        show_leaderboard(content)
        say(f"report: {write_bench(self.folder)}")
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
            failed[f"{entrant.name}, seed {seed}"] = str(error)
            say(f"left out: {entrant.name}, seed {seed}: {error}")
        board.save()
        late += time.perf_counter() - began - entrant.seconds()
    return failed


def _run(board: Board, entrant: Entrant, seed: int, title: str) -> dict[str, Any]:
    """One method, one seed: its line of results.jsonl."""
    from tutelage.engine.run import trial  # Lightning takes seconds to import; a wrong argument should not wait

    prepared, folder = entrant.run(seed), board.run_folder(entrant, seed)
    if not (folder / "recipe.yaml").exists():
        runfolder.create(folder, prepared, runfolder.argv())
    journal = Journal(folder, title)
    if prepared.teachers and prepared.recipe.train.cache != "live":
        prepared = cache.fill(replace(prepared, store=pathlib.Path(prepared.recipe.train.cache)), journal.say)
    with _signals_restored():
        done = trial(prepared.plan(folder), journal)
    scores = done.said.scores(prepared.task)
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
    line["weights"] = {"teachers": dict(done.teachers), "paths": paths}
    manifest = runfolder.manifest(prepared, runfolder.argv())
    return line | {name: manifest[name] for name in ("date", "versions", "hardware")}


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
    """Training takes signals over; after it they are ours again.

    Raises:
        Interrupted: A signal came after the last step, when training no longer listened.
    """
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        asked = getattr(getattr(signal.getsignal(signal.SIGINT), "__self__", None), "stop", None)
        for number, handler in kept.items():
            signal.signal(number, handler)
    if asked is not None:
        raise Interrupted(f"stopped by {asked}")


def show_leaderboard(content: Mapping[str, Any]) -> None:
    """The leaderboard in the terminal, on standard error."""
    from rich.console import Console
    from rich.table import Table

    from tutelage.report.board import leaderboard_table, left_out_table

    console = Console(stderr=True, width=None if sys.stderr.isatty() else 150)
    for told in (leaderboard_table(content), left_out_table(content)):
        if told is None:
            continue
        table = Table(title=told.title, title_justify="left", box=None, pad_edge=False)
        for column in told.head:
            table.add_column(column, justify="left" if column in ("method", "without") else "right")
        for row in told.rows:
            table.add_row(*row)
        console.print(table)
        say(told.note)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _long(seconds: float) -> str:
    from tutelage.report.units import seconds as written

    return written(seconds)
