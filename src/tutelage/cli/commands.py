"""The commands: options to the plain functions beside this file."""

import json
import sys
from typing import Annotated, Any

import typer

from .options import (
    AllowImport,
    Data,
    Force,
    Json,
    NoBaseline,
    Out,
    RecipeFile,
    Resume,
    Seeds,
    Set,
    Student,
    Task,
    Teachers,
)

app = typer.Typer(
    name="tutelage",
    help="Knowledge distillation: many teachers, many paths, one small student, and proof that it is better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _any_command(
    debug: Annotated[
        bool, typer.Option("--debug", help="With any command: the traceback of an error of yours, too.")
    ] = False,
) -> None:
    """Options of all commands; `main` takes ``--debug`` wherever it stands, before this is asked."""


def _job(
    student: str | None,
    teacher: list[str] | None,
    data: str | None,
    set: list[str] | None,
    force: bool,
    allow_import: list[str] | None,
    **keys: Any,
) -> dict[str, Any]:
    """What commands about a student and its teachers share, as their functions take it."""
    named: dict[str, Any] = {"student": student, "teachers": teacher or (), "data": data, "assignments": set or ()}
    return named | {"force": force, "allow_import": allow_import or ()} | _keys(**keys)


def _keys(task: str | None, seeds: int | None = None, no_baseline: bool = False) -> dict[str, Any]:
    """Keys of the recipe that were given as options."""
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
        out=out,
        resume=resume,
        dry_run=dry_run,
        **_job(student, teacher, data, set, force, allow_import, task=task, seeds=seeds, no_baseline=no_baseline),
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
        out=out,
        methods=[name.strip() for name in (methods or "").split(",") if name.strip()],
        seeds=seeds,
        against=against,
        leave_one_out=leave_one_out,
        skip_refused=skip_refused,
        budget=budget,
        resume=resume,
        dry_run=dry_run,
        **_job(student, teacher, data, set, force, allow_import, task=task),
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
        **_keys(task),
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
        out=out,
        **_job(student, teacher, data, set, force, allow_import, task=task, seeds=seeds, no_baseline=no_baseline),
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
        store=store,
        top_k=top_k,
        dtype="float32" if float32 else "float16",
        maps=maps,
        limit=limit,
        hours=hours,
        engine=engine,  # type: ignore[arg-type]
        workers=workers,
        **_job(student, teacher, data, set, force, allow_import, task=task),
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
