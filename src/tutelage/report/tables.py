"""The tables: rows of cells that are already text."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .figures import finite
from .read import Run
from .units import NONE, Metric, count, number, seconds, share, weight


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        name: Unique in its run.
        title: What it holds.
        head: The columns, the first of which names the rows; may be empty.
        rows: The cells.
        note: How to read it.
        words: Whether the cells hold words, set flush left, and not numbers.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: bool = False


def models(run: Run) -> Table | None:
    """Teachers, baseline and student beside each other; columns without a number are left out."""
    metric = Metric(run.metric)
    found = _models(run)
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        f"test {metric.name}": lambda m: metric.value(m.get("test")),
        f"validation {metric.name}": lambda m: metric.value(m.get("validation")),
        "parameters": lambda m: count(m.get("params")),
        "MACs": lambda m: count(m.get("macs")),
        "latency (ms)": lambda m: number(m.get("latency_ms")),
        "SSIM": lambda m: number(m.get("ssim")),
        "bicubic": lambda m: metric.value(m.get("bicubic_psnr")),
        "NLL (nats)": lambda m: number(m.get("nll")),
        "ECE": lambda m: share(m.get("ece")),
        "agrees with student": lambda m: share(m.get("agreement")),
    }
    cells = {head: [show(model) for model in found.values()] for head, show in columns.items()}
    kept = {head: column for head, column in cells.items() if any(cell != NONE for cell in column)}
    if not kept:
        return None
    student = (run.result.get("student") or {}).get("name")
    names = [f"student ({student})" if name == "student" and student else Run.label(name) for name in found]
    notes = {
        "MACs": f"MACs of one forward pass of one sample by {run.manifest.get('macs_by', 'the engine')}.",
        "latency (ms)": "Latency of one forward pass on the hardware named below.",
        "ECE": "ECE: expected calibration error, 0% where a model is right as often as it claims.",
        "agrees with student": "Agreement: share of test samples where a model says what the student says.",
    }
    told = [text for head, text in notes.items() if head in kept]
    if (several := run.result.get("seeds", 1)) > 1:
        told.append(
            f"Test and validation {metric.name} of student and baseline are means over {several} seeds; all else is "
            "of the first seed's models, which are those in the run folder."
        )
    rows = tuple(zip(names, *kept.values(), strict=True))
    return Table("models", "Models", ("model", *kept), rows, " ".join(told))


def seeds(run: Run) -> Table | None:
    """Student and baseline of each seed; none with a single seed."""
    metric = Metric(run.metric)
    found = run.evaluation.get("seeds", [])
    if len(found) < 2:
        return None
    rows = []
    for one in found:
        student, baseline = finite(one.get("student")), finite(one.get("baseline"))
        delta = None if student is None or baseline is None else student - baseline
        rows.append((str(one.get("seed")), metric.value(student), metric.value(baseline), metric.difference(delta)))
    head = ("seed", "student", "baseline", "difference")
    return Table("seeds", "Seeds", head, tuple(rows), f"Test {metric.name} of each seed.")


def weights(run: Run) -> Table | None:
    """Mean weight of each path and teacher over the student's stage, and where it ended."""
    lines = [line["weights"] for line in run.lessons if line.get("weights")] if run.taught else []
    if not lines:
        return _weights_of_result(run)
    paths = list(dict.fromkeys(Run.split(row)[0] for row in run.rows))
    teachers = sorted(dict.fromkeys(Run.split(row)[1] for row in run.rows), key=lambda teacher: teacher is None)
    loss = {name: path.get("loss") for name, path in run.result.get("paths", {}).items()}

    def cell(path: str, teacher: str | None) -> str:
        row = path if teacher is None else f"{path}/{teacher}"
        known = [value for line in lines if (value := finite(line.get(row))) is not None]
        return f"{weight(sum(known) / len(known))} → {weight(known[-1])}" if known else NONE

    head = ("path", *(teacher or "labels" for teacher in teachers))
    rows = tuple(
        (
            f"{path} ({loss[path]})" if isinstance(loss.get(path), str) else path,
            *(cell(path, t) for t in teachers),
        )
        for path in paths
    )
    note = "Mean over the logged steps → value at the last one. A weight near 0 was switched off."
    return Table("weights", "Mean weight of each path and teacher", head, rows, note)


def left_out(run: Run) -> Table | None:
    """What each teacher and each path brought, where a bench ran the method without it."""
    rows = run.left_out.get("parts", [])
    return effects(rows, Metric(run.left_out["metric"]), str(run.left_out["method"])) if rows else None


def effects(rows: Sequence[Mapping[str, Any]], metric: Metric, whole: str) -> Table:
    """The effect of each part of a method that was left out."""
    cells = tuple(
        (
            f"{row['kind']} {row['name']}",
            metric.difference(row["delta"]),
            metric.interval(row["interval"]),
            str(row["verdict"]),
        )
        for row in rows
    )
    note = f"{whole} minus the same method without the part, on the test split: above 0, the part helps."
    return Table("left-out", "What each part brings", ("without", "effect", "95% interval", "verdict"), cells, note)


def mistakes(run: Run, most: int = 10) -> Table | None:
    """The commonest mistakes of the student, for where there are too many classes for a heat map."""
    names = run.evaluation.get("classes", [])
    target, said = run.samples.get("target"), run.samples.get("student/prediction")
    if run.models.get("student", {}).get("confusion") or target is None or said is None or not names:
        return None
    wrong = (target != said) & (target >= 0) & (target < len(names))
    pairs = Counter(zip(target[wrong].tolist(), said[wrong].tolist(), strict=True))
    rows = tuple((str(names[true]), str(names[taken]), str(times)) for (true, taken), times in pairs.most_common(most))
    note = f"{len(names)} classes are too many for a heat map: the {len(rows)} commonest mistakes instead."
    return Table("mistakes", "Mistakes of the student", ("true class", "taken for", "samples"), rows, note)


def pairing(run: Run) -> Table | None:
    """Which tap of the student learns from which tap of a teacher, and what goes between."""
    found = run.evaluation.get("pairing", [])
    if not found:
        return None
    rows = tuple(
        (
            str(pair.get("path", NONE)),
            _tap(pair.get("student"), pair.get("student_shape")),
            str(pair.get("connector") or "none"),
            _tap(pair.get("teacher"), pair.get("teacher_shape")),
            str(pair.get("teacher_name", NONE)),
        )
        for pair in found
    )
    head = ("path", "student tap", "connector", "teacher tap", "teacher")
    return Table("pairing", "Pairing", head, rows, "Shapes of one sample. Edit the pairing in the recipe.", words=True)


def cost(run: Run) -> Table | None:
    """Where the time went."""
    spent = run.result.get("seconds", {})
    rows = [
        (name, seconds(spent.get(name))) for name in ("student", "baseline", "teachers", "total") if spent.get(name)
    ]
    speed, memory = run.result.get("samples_per_second"), run.result.get("peak_memory_mb")
    rows += [("speed", f"{speed:,.0f} samples/s")] if speed else []
    rows += [("peak memory", f"{memory:,.0f} MB")] if memory else []
    return Table("cost", "Cost", (), tuple(rows)) if rows else None


def comparison(runs: Sequence[Run]) -> Table:
    """Runs beside each other."""
    metric = Metric(runs[0].metric)
    interval = f"95% interval ({metric.step})" if metric.step else "95% interval"
    head = (
        "run", "student", "parameters", f"test {metric.name}", "baseline", "difference", interval,
        "verdict", "gap closed", "take", "seeds", "time",
    )  # fmt: skip
    note = "Intervals are of each run's own difference to its baseline, not of the differences between runs."
    if any(run.result.get("seeds", 1) > 1 for run in runs):
        note += " Scores are means over seeds."
    if len({run.metric for run in runs if run.result}) > 1:
        note += " The runs measure different metrics and cannot be ranked."
    return Table("comparison", "Runs", head, tuple(_compared(run) for run in runs), note)


def _compared(run: Run) -> tuple[str, ...]:
    result, metric = run.result, Metric(run.metric)
    student, baseline = result.get("student") or {}, result.get("baseline") or {}
    return (
        run.name,
        str(student.get("name", NONE)),
        count(student.get("params")),
        metric.value(student.get("test")),
        metric.value(baseline.get("test")),
        metric.difference(result.get("delta")),
        metric.interval(result.get("interval")),
        str(result.get("verdict") or ("none" if result else "unfinished")),
        share(result.get("gap_closed"), 0),
        str(result.get("shipped", NONE)),
        str(result.get("seeds", NONE)),
        seconds(result.get("seconds", {}).get("total")),
    )


def _models(run: Run) -> dict[str, dict[str, Any]]:
    """What is known of each model: the evaluation's numbers over those of the result."""
    result = run.result
    known: dict[str, Mapping[str, Any]] = {f"teacher:{n}": t for n, t in result.get("teachers", {}).items()}
    known |= {name: result[name] for name in ("baseline", "student") if result.get(name)}
    for name, model in run.models.items():
        known[name] = {**known.get(name, {}), **model, "test": run.test(name)}
    order = sorted(known, key=lambda name: {"baseline": 1, "student": 2}.get(name, 0))
    found = {name: dict(known[name]) for name in order}
    if "baseline" in found and "student" in found:  # the same network
        found["baseline"] = {key: found["student"].get(key) for key in ("params", "macs")} | found["baseline"]
    found.get("student", {}).pop("agreement", None)
    return found


def _weights_of_result(run: Run) -> Table | None:
    rows = tuple((name, weight(path.get("mean_weight"))) for name, path in run.result.get("paths", {}).items())
    rows += tuple((f"teacher {n}", weight(t.get("mean_weight"))) for n, t in run.result.get("teachers", {}).items())
    return Table("weights", "Mean weights", ("path or teacher", "mean weight"), rows) if rows else None


def _tap(name: str | None, shape: Sequence[int] | None) -> str:
    size = f" ({' × '.join(map(str, shape))})" if shape else ""
    return f"{name or 'output'}{size}"
