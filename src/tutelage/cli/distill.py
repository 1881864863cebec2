"""Distil teachers into a student, train the matched baseline, and say which is better."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tutelage.engine import processes
from tutelage.engine.journal import Journal
from tutelage.errors import Interrupted, RecipeError
from tutelage.recipe import schema

from . import cache, runfolder
from .check import tell
from .gather import gather
from .prepare import prepare
from .show import say, show_pairing, show_teachers


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: Where everything is.
        result: The content of result.json.
        student: The distilled student, a plain module.
        baseline: The same student trained alone; None without a baseline.
    """

    folder: pathlib.Path
    result: dict[str, Any]
    student: nn.Module
    baseline: nn.Module | None

    @property
    def verdict(self) -> str | None:
        """``better``, ``no difference`` or ``worse``; None without a baseline."""
        found: str | None = self.result["verdict"]
        return found


def distill(
    recipe: str | pathlib.Path | Mapping[str, Any] | None = None,
    *,
    student: Any = None,
    teachers: Sequence[Any] | Mapping[str, Any] | pathlib.Path | nn.Module = (),
    data: Any = None,
    out: str | pathlib.Path,
    assignments: Sequence[str] = (),
    resume: bool = False,
    dry_run: bool = False,
    force: bool = False,
    allow_import: Sequence[str] = (),
    **keys: Any,
) -> Run | dict[str, Any]:
    """Distil teachers into a student and compare it with the same student trained alone.

    Args:
        recipe: A recipe's path or content; the other arguments win over it.
        student: A model's string or module.
        teachers: Models' strings or modules, or one of them alone; a mapping names them.
        data: A path or name, or a data set of ``(picture, label)``.
        out: The run folder, which is made.
        assignments: ``key.sub=value``, as after ``--set``.
        resume: Go on with the run in `out`.
        dry_run: Check everything, print guesses and pairing, train nothing.
        force: Go on with a teacher near chance.
        allow_import: Packages from which models and parts may be imported.
        **keys: Any top-level key of a recipe: `paths`, `weighting`, `train`, `seeds`, `baseline` …

    Returns:
        The run; after a dry run what `check` returns.

    Raises:
        InputError: Something given cannot be used; nothing was written.
        Interrupted: A signal stopped the run; `resume` goes on.
    """
    out = pathlib.Path(out)
    runfolder.claim(out, resume)
    if isinstance(teachers, str | pathlib.Path | nn.Module):
        teachers = [teachers]
    if resume:
        given = {"recipe": recipe, "--set": assignments, **keys}
        named = (
            {} if is_live(student, teachers, data) else {"--student": student, "--teacher": teachers, "--data": data}
        )
        recipe = runfolder.resumed_recipe(out, given | named, "distill", allow_import)
        if not is_live(student, teachers, data):
            student, teachers, data = None, (), None
    raw, live = gather(recipe, student=student, teachers=teachers, data=data, assignments=assignments, keys=keys)
    if not runfolder.has_teacher(raw, allow_import):
        raise RecipeError("distill: expected at least one teacher, found none. Give --teacher MODEL[@WEIGHTS].")
    return execute(raw, live, out, resume=resume, dry_run=dry_run, force=force, allow_import=allow_import)


def execute(
    raw: Mapping[str, Any],
    live: Mapping[str, Any],
    out: pathlib.Path,
    *,
    resume: bool,
    dry_run: bool = False,
    force: bool = False,
    allow_import: Sequence[str] = (),
    command: str = "distill",
) -> Run | dict[str, Any]:
    """Prepare, run and write the results, in all processes that were started together."""
    processes.meet(schema.parse(raw).train.accelerator)
    prepared = prepare(raw, live, allow_import=allow_import, force=force or resume)
    if dry_run:
        return tell(prepared)
    show_teachers(prepared)
    show_pairing(prepared)
    prepared = cache.decide(prepared, out)
    processes.wait()  # what is decided depends on the room on the disk, which the first will now use
    line = runfolder.resume_line(out, command, allow_import, live=bool(live))
    try:
        if resume:
            runfolder.compare(out, prepared)
        elif processes.first():
            runfolder.create(out, prepared, runfolder.argv())
        from tutelage.engine.run import run  # Lightning takes seconds to import; a wrong argument should not wait

        journal = Journal(out)
        with runfolder.writing(out, line):
            with processes.in_turn():
                prepared = cache.fill(prepared, journal.say)
            plan = dataclasses.replace(prepared.plan(out), tested=lambda: cache.tested(prepared, journal.say))
            outcome = run(plan, journal)
            if processes.first():
                runfolder.fill(out, prepared, outcome)
            processes.wait()
    except (Interrupted, KeyboardInterrupt) as error:
        stopped = str(error) or "stopped by a signal"
        begun = (out / "recipe.yaml").exists()
        raise Interrupted(f"{stopped}. To go on: {line}" if begun else f"{stopped}; nothing was written.") from error
    result = outcome.result or json.loads((out / "result.json").read_text(encoding="utf-8"))
    announce(result, out)
    return Run(out, result, outcome.student, outcome.baseline)


def announce(result: Mapping[str, Any], out: pathlib.Path) -> None:
    """The verdict, in a few lines for people."""
    metric, student, baseline = result["metric"], result["student"], result["baseline"]
    say("")
    for name, teacher in result["teachers"].items():
        weight = "" if teacher["mean_weight"] is None else f", mean weight {teacher['mean_weight']:.2f}"
        say(f"  teacher {name:<14} validation {teacher['validation']:.4f}  {teacher['params']:>12,} parameters{weight}")
    scores = f"validation {student['validation']:.4f}  {student['params']:>12,} parameters, test {student['test']:.4f}"
    say(f"  student {student['name']:<14} {scores}")
    if baseline is not None:
        low, high = result["interval"]
        scores = f"validation {baseline['validation']:.4f}  {'the same, alone':>23}, test {baseline['test']:.4f}"
        say(f"  baseline {'':<13} {scores}")
        say(f"verdict: {result['verdict']} ({metric} {result['delta']:+.4f}, 95% interval {low:+.4f} to {high:+.4f})")
        say(f"  {result['verdict_method']}")
        if (result["gap_closed"] or 0) > 0:
            say(f"  {result['gap_closed']:.0%} of the gap to the best teacher was closed (validation)")
        if result["shipped"] == "baseline":
            say("  the baseline is better on validation: take baseline/ instead of student/")
    if first := runfolder.first_seed(out):
        said = f"test {first['student']:.4f}" + ("" if baseline is None else f", baseline/ {first['baseline']:.4f}")
        say(
            f"  scores are means over {result['seeds']} seeds; student/ holds the model of seed {first['seed']}: {said}"
        )
    say(f"student: {out / 'student'}")
    say(f"report:  {out / 'report.html'}")


def is_live(*given: Any) -> bool:
    """Whether something was given as an object, which no recipe can hold."""
    flat: list[Any] = []
    for value in given:
        flat += value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    return any(item is not None and not isinstance(item, str | pathlib.Path) for item in flat)
