"""The command line: options to the plain functions beside this file, errors to exit codes."""

import errno
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tutelage.errors import InputError, Interrupted, MissingExtra, missing_extra

from .memory import keep_freed_memory

# Read when torch is imported, later: threads that wait must not spin, or a busy machine makes them many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

INTERRUPTED = 130

app = typer.Typer(
    name="tutelage",
    help="Knowledge distillation: many teachers, many paths, one small student, and proof that it is better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[str | None, typer.Argument(help="A recipe (YAML); the options win over it.", show_default=False)]
Student = Annotated[str | None, typer.Option("--student", help="The student: MODEL[@WEIGHTS].", show_default=False)]
Teachers = Annotated[
    list[str] | None,
    typer.Option("--teacher", help="A teacher: [NAME=]MODEL[@WEIGHTS]; may be repeated.", show_default=False),
]
Data = Annotated[
    str | None, typer.Option("--data", help="A folder or a name, see `tutelage list data`.", show_default=False)
]
Out = Annotated[str, typer.Option("--out", help="The run folder, which is made.")]
Task = Annotated[str | None, typer.Option("--task", help="The task, see `tutelage list tasks`.", show_default=False)]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="key.sub=value of the recipe; may be repeated.", show_default=False)
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", help="How many seeds; 3 or more for a firm verdict.", show_default=False)
]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Do not train the matched baseline: no verdict.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Force = Annotated[bool, typer.Option("--force", help="Go on with a teacher near chance.")]
AllowImport = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-import",
        help="A package from which models and parts may be imported; may be repeated.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


@app.callback()
def _any_command(
    debug: Annotated[
        bool, typer.Option("--debug", help="With any command: the traceback of an error of yours, too.")
    ] = False,
) -> None:
    """Options of all commands; `main` takes ``--debug`` wherever it stands, before this is asked."""


def _keys(task: str | None, seeds: int | None, no_baseline: bool) -> dict[str, Any]:
    keys: dict[str, Any] = {} if task is None else {"task": task}
    keys |= {} if seeds is None else {"seeds": seeds}
    return keys | ({"baseline": False} if no_baseline else {})


def _print(value: Any) -> None:
    from tutelage.engine import processes

    if processes.first():
        typer.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False))


@app.command()
def demo(
    out: Out = "runs/demo",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted demo in --out.")] = False,
    json: Json = False,
) -> None:
    """Three teachers, one small student, handwritten digits; offline, about a minute."""
    from .demo import demo as command

    run = command(out, resume=resume)
    if json:
        _print(run.result)


@app.command()
def distill(
    recipe: RecipeFile = None,
    *,
    out: Out,
    student: Student = None,
    teacher: Teachers = None,
    data: Data = None,
    task: Task = None,
    set: Set = None,
    seeds: Seeds = None,
    no_baseline: NoBaseline = False,
    resume: Resume = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, train nothing.")] = False,
    force: Force = False,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """Distil teachers into a student, and compare it with the same student trained alone."""
    from .distill import distill as command

    run = command(
        recipe,
        student=student,
        teachers=teacher or (),
        data=data,
        out=out,
        assignments=set or (),
        resume=resume,
        dry_run=dry_run,
        force=force,
        allow_import=allow_import or (),
        **_keys(task, seeds, no_baseline),
    )
    if json:
        _print(run if isinstance(run, dict) else run.result)


@app.command()
def bench(
    recipe: RecipeFile = None,
    *,
    out: Annotated[str, typer.Option("--out", help="The folder of the results, which is made, or goes on.")],
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Methods, separated by commas: plain, label_smoothing, or PATHS/WEIGHTING@TEACHERS with parts left "
            "out: kd, auto, equal, dist, kl+attention/adaptive, auto@big; or names under `methods:` in the recipe. "
            "[default: those of the recipe, else plain,kd,auto]",
            show_default=False,
        ),
    ] = None,
    student: Student = None,
    teacher: Teachers = None,
    data: Data = None,
    task: Task = None,
    set: Set = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="How many seeds. [default: 3]", show_default=False)
    ] = None,
    against: Annotated[str, typer.Option("--against", help="A method that all are compared with.")] = "plain",
    leave_one_out: Annotated[
        bool,
        typer.Option("--leave-one-out", help="Also the first method without each teacher and without each path."),
    ] = False,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Go on without methods that cannot be built.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Longest time in hours, by the estimate.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --out was asked for.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build all methods, estimate, train nothing.")] = False,
    force: Force = False,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """Equal-budget leaderboard of methods on your data; what is finished is not run again."""
    from .bench import bench as command

    found = command(
        recipe,
        student=student,
        teachers=teacher or (),
        data=data,
        out=out,
        methods=[name.strip() for name in (methods or "").split(",") if name.strip()],
        seeds=seeds,
        against=against,
        leave_one_out=leave_one_out,
        skip_refused=skip_refused,
        budget=budget,
        assignments=set or (),
        resume=resume,
        dry_run=dry_run,
        force=force,
        allow_import=allow_import or (),
        **_keys(task, None, False),
    )
    if json:
        _print(found)


@app.command()
def train(
    recipe: RecipeFile = None,
    *,
    out: Out,
    model: Annotated[
        str | None, typer.Option("--model", help="The model: MODEL[@WEIGHTS].", show_default=False)
    ] = None,
    data: Data = None,
    task: Task = None,
    set: Set = None,
    resume: Resume = False,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """Train a model from labels alone: makes a teacher."""
    from .train import train as command

    run = command(
        recipe,
        model=model,
        data=data,
        out=out,
        assignments=set or (),
        resume=resume,
        allow_import=allow_import or (),
        **_keys(task, None, False),
    )
    if json:
        _print(run.result)


@app.command()
def check(
    recipe: RecipeFile = None,
    *,
    student: Student = None,
    teacher: Teachers = None,
    data: Data = None,
    task: Task = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="Where the run is to go: looked at, never written.", show_default=False),
    ] = None,
    set: Set = None,
    seeds: Seeds = None,
    no_baseline: NoBaseline = False,
    force: Force = False,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """Score the teachers, print guesses and pairing; trains nothing."""
    from .check import check as command

    found = command(
        recipe,
        student=student,
        teachers=teacher or (),
        data=data,
        out=out,
        assignments=set or (),
        force=force,
        allow_import=allow_import or (),
        **_keys(task, seeds, no_baseline),
    )
    if json:
        _print(found)


@app.command()
def cache(
    recipe: RecipeFile = None,
    *,
    store: Annotated[str, typer.Option("--store", help="The folder of the answers, which is made.")],
    student: Student = None,
    teacher: Teachers = None,
    data: Data = None,
    task: Task = None,
    set: Set = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Keep so many logits, spread the rest.", show_default=False)
    ] = None,
    float32: Annotated[bool, typer.Option("--float32", help="Do not round to float16.")] = False,
    maps: Annotated[bool, typer.Option("--maps", help="Keep feature maps, too: they are large.")] = False,
    limit: Annotated[float, typer.Option("--limit", help="Largest number of gigabytes to write.")] = 20.0,
    hours: Annotated[
        float | None, typer.Option("--hours", help="Longest time it may take, by the estimate.", show_default=False)
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray: on the workers of a Ray cluster.")] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="How many of Ray's workers.", show_default=False)
    ] = None,
    force: Force = False,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """Teachers' answers to disk, with a size and time estimate first."""
    from .cache import cache as command

    done = command(
        recipe,
        student=student,
        teachers=teacher or (),
        data=data,
        store=store,
        assignments=set or (),
        top_k=top_k,
        dtype="float32" if float32 else "float16",
        maps=maps,
        limit=limit,
        hours=hours,
        engine=engine,  # type: ignore[arg-type]
        workers=workers,
        force=force,
        allow_import=allow_import or (),
        **_keys(task, None, False),
    )
    if json:
        _print(done)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="MODEL[@WEIGHTS] or a run folder.")],
    input: Annotated[
        str | None,
        typer.Option("--input", help="Shape of a picture; a run folder's own, else 3x32x32.", show_default=False),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option("--classes", min=1, help="How many classes; a run folder's own, else 10.", show_default=False),
    ] = None,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """The taps of a model, with shapes and strides."""
    from .inspect import inspect as command

    rows = command(model, input=input, classes=classes, allow_import=allow_import or ())
    if json:
        _print(rows)
        return
    _table(
        ("tap", "kind", "shape", "stride"),
        [[r["tap"], r["kind"], "x".join(map(str, r["shape"])), r["stride"] or ""] for r in rows],
    )


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder or MODEL[@WEIGHTS].")],
    *,
    data: Annotated[str, typer.Option("--data", help="A folder or a name, see `tutelage list data`.")],
    split: Annotated[str, typer.Option("--split", help="test, selection or train.")] = "test",
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Side of the pictures.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", help="Of the cut, where the data brings no such split; the run's, else 0.", show_default=False
        ),
    ] = None,
    task: Task = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="data.key=value; may be repeated.", show_default=False)
    ] = None,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """Metrics of a model on a split."""
    from .evaluate import evaluate as command

    found = command(
        model,
        data=data,
        split=split,
        image_size=image_size,
        seed=seed,
        task=task,
        assignments=set or (),
        allow_import=allow_import or (),
    )
    if json:
        _print(found)
        return
    _table(("metric", split), [[name, f"{value:.4f}"] for name, value in found.items() if isinstance(value, float)])


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    format: Annotated[str, typer.Option("--format", help="onnx, int8 or pt2.")] = "onnx",
    model: Annotated[str, typer.Option("--model", help="student or baseline.")] = "student",
    most_lost: Annotated[
        float, typer.Option("--most-lost", help="By how much the metric of an int8 file may be worse, in its own unit.")
    ] = 0.01,
    allow_import: AllowImport = None,
    json: Json = False,
) -> None:
    """Write a run's student in another format, with a parity check."""
    from .export import export as command

    parity = command(run, format=format, model=model, most_lost=most_lost, allow_import=allow_import or ())
    if json:
        _print(parity)


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(help="Run folders.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="The file; report.html in the run otherwise, or comparison.html beside the first of several."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """One self-contained HTML file from one run or several."""
    from .report import report as command

    file = command(runs, out=out)
    if json:
        _print({"file": str(file)})
    else:
        typer.echo(file)


@app.command()
def cite(
    source: Annotated[str, typer.Argument(help="A recipe, a run folder, or a folder of `tutelage bench`.")],
    json: Json = False,
) -> None:
    """BibTeX of the methods that were used."""
    from .cite import cite as command

    found = command(source)
    if json:
        _print(found)
        return
    for entry in found["entries"]:
        typer.echo(f"% {', '.join(entry['parts'])}\n{entry['bibtex']}\n")
    typer.echo(found["software"])
    for part in found["unknown"]:
        typer.echo(f"no reference is known for {part}, which is not of this library", err=True)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="losses, weightings, schemes, connectors, tasks, models or data.")],
    json: Json = False,
) -> None:
    """The parts there are."""
    from .list import list as command

    found = command(kind)
    if json:
        _print(found)
        return
    width = max((len(name) for name in found), default=0)
    for name, line in found.items():
        typer.echo(f"{name:<{width}}  {line}".rstrip())


@app.command()
def doctor(json: Json = False) -> None:
    """Versions and hardware, for bug reports."""
    from .doctor import doctor as command

    found = command()
    if json:
        _print(found)
        return
    for name, value in {**found["versions"], **found["hardware"]}.items():
        shown = ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
        typer.echo(f"{name:<13} {shown}")


def _table(columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code says what happened.

    Returns:
        0 done, 2 the user's input, 1 a defect of ours, 130 interrupted.
    """
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
    allows = any(argument.partition("=")[0] == "--allow-import" for argument in arguments)
    if allows and "" not in sys.path:
        sys.path.insert(0, "")  # a package of the user's lies where the command is given
    signal.signal(signal.SIGTERM, _terminated)
    if argv is None:
        keep_freed_memory()
    code = _guarded(lambda: app(args=arguments, standalone_mode=False), debug)
    if argv is None:
        sys.exit(code)
    return code


_NOT_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""Ways in which a disk refuses to be read or written that no program can mend."""


def _guarded(command: Callable[[], Any], debug: bool) -> int:
    try:
        code = command()
        if code == INTERRUPTED:  # a signal that the library of commands caught before we could
            typer.echo("interrupted", err=True)
        return code if isinstance(code, int) else 0
    except SystemExit as done:
        if isinstance(done.__context__, BrokenPipeError):  # whoever read the output, such as `head`, has read enough
            return 0
        raise
    except (InputError, MissingExtra) as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"{_speaker()}{type(error).__name__}: {error}", err=True)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        typer.echo(f"{_speaker()}interrupted: {error}" if str(error) else "interrupted", err=True)
        return INTERRUPTED
    except typer.Exit as done:
        return int(done.exit_code)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "show"):  # a usage error of the command line
            error.show()
            return 2
        if isinstance(error, OSError) and error.errno in _NOT_OURS and not debug:
            place = error.filename or "a file"
            typer.echo(f"{place}: expected to read or write here, found: {error.strerror}.", err=True)
            return 2
        if isinstance(error, ImportError) and (missing := missing_extra(error)) is not None and not debug:
            typer.echo(f"MissingExtra: {missing}", err=True)
            return 2
        traceback.print_exc()
        typer.echo(
            "\nThis is a defect of tutelage. Please report it with the lines above and `tutelage doctor`.", err=True
        )
        return 1


def _speaker() -> str:
    """Which of several processes speaks; nothing for the first."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return "" if world == "1" or rank == "0" else f"[process {rank} of 0 to {int(world) - 1}] "


def _terminated(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
