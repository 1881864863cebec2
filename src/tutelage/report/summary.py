"""The first screen: what came out, how sure that is, and which model to take."""

from dataclasses import dataclass

from .read import Run
from .units import NONE, Metric, share, signed


@dataclass(frozen=True)
class Summary:
    """What a hurried reader needs.

    Args:
        verdict: ``better``, ``no difference``, ``worse``; or ``none``, ``unfinished``.
        sentence: The verdict in one sentence.
        facts: A few numbers: what, its value, what it means.
        notes: What the interval covers, what is missing, what the run itself warned of.
    """

    verdict: str
    sentence: str
    facts: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]


def summarise(run: Run) -> Summary:
    """Put the outcome of a run into words."""
    said = dict.fromkeys((*run.manifest.get("notes", ()), *run.evaluation.get("notes", ())))
    warned = tuple(note[:1].upper() + note[1:] for note in map(str, said))
    if not run.result:
        return Summary("unfinished", _unfinished(run), (), (*run.missing, *warned))
    covers = (coverage(run),) if run.result.get("interval") else ()
    verdict = run.result.get("verdict")
    return Summary(verdict or "none", _sentence(run), _facts(run), (*covers, *run.missing, *warned))


def coverage(run: Run) -> str:
    """What the interval covers: in the words of whoever computed it, else by the number of seeds."""
    method = run.evaluation.get("verdict_method") or run.result.get("verdict_method")
    if method:
        return str(method)
    seeds = run.result.get("seeds", 1)
    if seeds <= 1:
        return (
            "The interval covers the choice of test samples only. There was one seed: "
            "how far another seed would move the difference is not in it (--seeds 3 or more measures that)."
        )
    how = (
        "a bootstrap over seeds and samples"
        if seeds >= 5
        else "a t-interval on the differences per seed, plus the sampling variance"
    )
    return f"The interval covers the choice of test samples and the spread between {seeds} seeds: {how}."


def _sentence(run: Run) -> str:
    metric = Metric(run.metric)
    delta, verdict = run.result.get("delta"), run.result.get("verdict")
    if verdict is None or delta is None:
        return _unjudged(run, metric)
    by = signed(abs(delta) * metric.scale).lstrip("+")
    way = "higher" if delta > 0 else "lower"
    moved = "the same" if by == "0.00" else " ".join(filter(None, (by, metric.step, way)))
    if verdict == "no difference":
        return (
            "No difference could be shown between the distilled student and the same student trained without "
            f"teachers: its test {metric.name} is {moved}."
        )
    return (
        f"The distilled student is {verdict} than the same student trained without teachers: "
        f"its test {metric.name} is {moved}."
    )


def _unjudged(run: Run, metric: Metric) -> str:
    reached = metric.value((run.result.get("student") or {}).get("test"))
    pupil = "student" if run.result.get("teachers") else "model"
    found = f"The {pupil} is trained" if reached == NONE else f"The {pupil} reaches a test {metric.name} of {reached}"
    if not run.result.get("teachers"):
        return f"{found}; it was trained without teachers."
    why = "no baseline was trained" if run.result.get("baseline") is None else "there is nothing to judge it by"
    return f"{found}; there is no verdict, because {why}."


def _facts(run: Run) -> tuple[tuple[str, str, str], ...]:
    metric, result = Metric(run.metric), run.result
    facts = []
    if result.get("delta") is not None:
        facts.append(("Difference", metric.difference(result["delta"]), f"student minus baseline, test {metric.name}"))
    if result.get("interval"):
        facts.append(
            (
                "95% interval",
                metric.interval(result["interval"]),
                f"of the difference, {metric.step}".rstrip(", "),
            )
        )
    if result.get("gap_closed") is not None:
        facts.append(("Gap closed", share(result["gap_closed"], 0), "of the way from baseline to teacher, validation"))
    if result.get("shipped"):
        shipped = result["shipped"]
        odd = shipped == "baseline"
        reason = "the baseline is better on validation" if odd else "plain weights, loads without tutelage"
        facts.append(("Take", f"{shipped}/", reason))
    return tuple(facts)


def _unfinished(run: Run) -> str:
    if not run.train and not run.validation:
        return "This run has logged nothing yet: there is nothing to judge."
    metric = Metric(run.metric)
    last = (*run.train, *run.validation)[-1] if not run.train else run.train[-1]
    at = f"at step {last.get('step')} of stage “{last.get('stage', 'student')}” when this page was written"
    seen = run.stages("validation").get("student", [])
    best = max((line.get("validation") or 0.0 for line in seen), default=None)
    so_far = f" Best validation {metric.name} of the student so far: {metric.value(best)}." if best is not None else ""
    return f"This run has not finished: it stood {at}.{so_far}"
