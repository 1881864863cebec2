"""A whole run: teachers looked at, stages trained, baseline trained, test split read once, verdict written."""

import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from tutelage import verdict as verdicts
from tutelage.cache import Record
from tutelage.distiller import STUDENT
from tutelage.models import latency, macs, parameters
from tutelage.schemes.base import Cast, Stage
from tutelage.tasks.base import Task

from . import processes
from .evaluate import Answers, answer, read_answers
from .examine import Examined
from .journal import Journal
from .results import (
    far_behind,
    mean_weights,
    notes_of,
    peak_memory_mb,
    write_json,
    write_tensors,
)
from .settings import Settings
from .train import Trained, train_stage

BASELINE = "baseline"

SCHEMA = 1
"""Of result.json."""

SHOWN = 24
"""So many test pictures are shown on which the student is farthest from its teachers."""


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, built from a recipe.

    Args:
        folder: The run folder.
        task: The task.
        cast: Gives the cast of a seed: models, teachers, distillers.
        scheme: Gives the stages of a cast.
        loaders: ``(slice name, seed, baseline) -> loader``; slice names are train, selection and test. For the
            baseline, training pictures are always augmented afresh, and only labelled ones are drawn.
        settings: How to train.
        seeds: How many seeds.
        baseline: Whether to train the matched baseline.
        teachers: The teachers' networks by name.
        examined: What was found of them beforehand.
        input_shape: Shape of a picture, ``(C, H, W)``.
        answering: Seconds in which the teachers' answers were put on disk, before the run.
        tested: Gives the teachers' answers to the test split that are on disk, when it is time to read that split.
        details: More for evaluation.json, such as the pairing.
    """

    folder: pathlib.Path
    task: Task
    cast: Callable[[int], Cast]
    scheme: Callable[[Cast], Iterator[Stage]]
    loaders: Callable[[str, int, bool], Any]
    settings: Settings
    seeds: int
    baseline: bool
    teachers: Mapping[str, nn.Module]
    examined: Mapping[str, Examined]
    input_shape: tuple[int, int, int]
    answering: float = 0.0
    tested: Callable[[], Mapping[str, Record]] = dict
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a run ended in.

    Args:
        student: The distilled student of the first seed, a plain module.
        baseline: The baseline of the first seed; None without one.
        result: The content of result.json; empty in all processes but the first.
        others: What became of the first seed's other pupils of the last stage, plain modules by name.
    """

    student: nn.Module
    baseline: nn.Module | None
    result: dict[str, Any]
    others: Mapping[str, nn.Module] = field(default_factory=dict)


def run(plan: Plan, journal: Journal) -> Outcome:
    """Train, compare, and write the results; what is already done is loaded, and a result that stands is left alone.

    Of several processes all train, and the first alone compares and writes: the others have no result.
    """
    began = time.perf_counter()
    students, baselines = [], []
    others: dict[str, nn.Module] = {}
    for seed in range(plan.settings.seed, plan.settings.seed + plan.seeds):
        student, beside = _train_student(plan, journal, seed)
        students.append(student)
        others = others or beside
        if plan.baseline:
            baselines.append(_train_alone(plan, journal, seed, BASELINE))
    if not processes.first():
        return Outcome(students[0][0], baselines[0][0] if baselines else None, {}, others)
    stands = _standing(plan.folder / "result.json")
    if stands is not None:
        journal.say("this run was finished before: its result stands, and the test split is not read again")
        return Outcome(students[0][0], baselines[0][0] if baselines else None, stands, others)
    journal.say("reading the test split, once")
    test = plan.loaders("test", plan.settings.seed, False)
    said = {STUDENT: [answer(model, plan.task, test) for model, _ in students]}
    said[BASELINE] = [answer(model, plan.task, test) for model, _ in baselines]
    records = plan.tested()
    taught = {
        f"teacher:{name}": read_answers(records[name], plan.task, test)
        if name in records
        else answer(model, plan.task, test)
        for name, model in plan.teachers.items()
    }
    result = _result(plan, students, baselines, said)
    earlier = sum(trained.earlier for _, trained in students + baselines)
    result["seconds"]["total"] = round(time.perf_counter() - began + _teaching(plan) + earlier, 2)
    first = {name: answers[0] for name, answers in said.items() if answers} | taught
    _write_evaluation(plan, students, baselines, first, said, result)
    write_json(plan.folder / "result.json", result)
    return Outcome(students[0][0], baselines[0][0] if baselines else None, result, others)


def _standing(path: pathlib.Path) -> dict[str, Any] | None:
    """The result of a run that was finished before; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


Finished = tuple[nn.Module, Trained]


def stage_name(name: str, seed: int, first: int) -> str:
    """The stage's name, with the seed for all seeds but the first.

    Example:
        >>> stage_name("student", 0, 0), stage_name("student", 2, 0)
        ('student', 'student-seed2')
    """
    return name if seed == first else f"{name}-seed{seed}"


@dataclass(frozen=True)
class Trial:
    """One student, trained once.

    Args:
        trained: How its training went.
        said: Its answers to the test split.
        teachers: Mean weight of each teacher.
        paths: Mean weight of each path.
        notes: Who was hardly heard, and what the weighting wanted people to know.
    """

    trained: Trained
    said: Answers
    teachers: Mapping[str, float]
    paths: Mapping[str, float]
    notes: Sequence[str]


def trial(plan: Plan, journal: Journal, *, taught: bool) -> Trial:
    """Train the student of the plan's own seed, and nothing else; read the test split once, at its end.

    Without anybody who teaches (a teacher of the plan's, or one that its scheme brings) it is trained as a matched
    baseline is: on fresh views of labelled samples. What is already done is loaded.
    """
    seed = plan.settings.seed
    if taught:
        student, trained = _train_student(plan, journal, seed)[0]
    else:
        student, trained = _train_alone(plan, journal, seed)
    said = answer(student, plan.task, plan.loaders("test", seed, False))
    return Trial(trained, said, *mean_weights(journal.metrics, STUDENT), notes_of(journal.metrics, STUDENT))


def _train_student(plan: Plan, journal: Journal, seed: int) -> tuple[Finished, dict[str, nn.Module]]:
    """The student, and the other pupils of the last stage; its seconds and steps are those of all stages."""
    cast, stages, stage = plan.cast(seed), [], None
    for stage in plan.scheme(cast):
        stages.append(_train(plan, journal, stage, seed, stage.name))
    assert stage is not None, "a scheme has at least one stage"
    trained = replace(
        stages[-1],
        seconds=sum(each.seconds for each in stages),
        steps=sum(each.steps for each in stages),
        earlier=sum(each.earlier for each in stages),
    )
    first = STUDENT if STUDENT in stage.pupils else next(iter(stage.pupils))
    released = {name: cast.release(pupil.student) for name, pupil in stage.pupils.items()}
    return (released.pop(first), trained), released


def _train_alone(plan: Plan, journal: Journal, seed: int, name: str = STUDENT) -> Finished:
    """The student without teachers, under a name."""
    cast = plan.cast(seed)
    pupil = cast.distiller(cast.model(STUDENT), {})
    trained = _train(plan, journal, Stage(name, {STUDENT: pupil}), seed, name, baseline=True)
    return cast.release(pupil.student), trained


def _train(plan: Plan, journal: Journal, stage: Stage, seed: int, name: str, *, baseline: bool = False) -> Trained:
    return train_stage(
        stage,
        plan.loaders("train", seed, baseline),
        plan.loaders("selection", seed, False),
        plan.settings.with_seed(seed),
        plan.folder / "checkpoints",
        journal,
        stage_name(name, seed, plan.settings.seed),
    )


def _result(
    plan: Plan, students: Sequence[Finished], baselines: Sequence[Finished], said: Mapping[str, list[Answers]]
) -> dict[str, Any]:
    task = plan.task
    scores = {name: [a.scores(task) for a in answers] for name, answers in said.items()}
    test = {name: _mean([verdicts.value(one, task.parts) for one in s]) for name, s in scores.items() if s}
    validation = {STUDENT: _best(students)} | ({BASELINE: _best(baselines)} if baselines else {})
    teachers, paths = mean_weights(plan.folder / "metrics.jsonl", *_stages(plan))
    verdict = None
    if baselines:
        # What one seed cannot show between runs, it shows between classes: they are learned well or badly together.
        groups = task.groups(said[STUDENT][0].kept)
        verdict = verdicts.judge(
            torch.stack(scores[STUDENT]),
            torch.stack(scores[BASELINE]),
            higher_is_better=task.higher_is_better,
            blocks=_blocks(plan),
            groups=groups,
            parts=task.parts,
        )
    best = max if task.higher_is_better else min
    best_teacher = best((found.validation for found in plan.examined.values()), default=None)
    seconds = {"student": sum(t.seconds for _, t in students), "baseline": sum(t.seconds for _, t in baselines)}
    samples = sum(t.steps for _, t in students) * plan.loaders("train", plan.settings.seed, False).batch_size
    return {
        "schema": SCHEMA,
        "task": task.name,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "student": {
            "name": getattr(students[0][0], "origin", {}).get("name", type(students[0][0]).__name__),
            "params": parameters(students[0][0]),
            "macs": macs(students[0][0], plan.input_shape),
            "validation": validation[STUDENT],
            "test": test[STUDENT],
        },
        "baseline": {"validation": validation[BASELINE], "test": test[BASELINE]} if baselines else None,
        "teachers": {
            name: {
                "params": parameters(model),
                "macs": macs(model, plan.input_shape),
                "validation": plan.examined[name].validation,
                "mean_weight": teachers.get(name),
            }
            for name, model in plan.teachers.items()
        },
        "paths": {
            name: {"loss": loss, "mean_weight": paths.get(name)} for name, loss in plan.details["losses"].items()
        },
        "delta": verdict.delta if verdict else None,
        "interval": list(verdict.interval) if verdict else None,
        "gap_closed": verdicts.gap_closed(
            validation[STUDENT], validation[BASELINE], best_teacher, higher_is_better=task.higher_is_better
        )
        if baselines and best_teacher is not None
        else None,
        "verdict": verdict.verdict if verdict else None,
        "verdict_method": verdict.method + _unmatched(students[0][1], baselines[0][1]) if verdict else None,
        "shipped": verdicts.shipped(validation[STUDENT], validation[BASELINE], higher_is_better=task.higher_is_better)
        if baselines
        else STUDENT,
        "seeds": plan.seeds,
        "seconds": {
            "total": 0.0,
            **{name: round(value, 2) for name, value in seconds.items()},
            "teachers": round(_teaching(plan), 2),
        },
        "samples_per_second": round(samples / max(seconds["student"], 1e-9), 1),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }


def _stages(plan: Plan) -> list[str]:
    """The student's stage in each seed."""
    first = plan.settings.seed
    return [stage_name(STUDENT, seed, first) for seed in range(first, first + plan.seeds)]


def _unmatched(student: Trained, baseline: Trained) -> str:
    """What the student had beside its teachers that the baseline had not: a sentence to follow the verdict's method."""
    unmatched = []
    if student.start != baseline.start:
        unmatched.append("the student did not start from the baseline's initial weights")
    if student.epochs > baseline.epochs or (unmatched and student.steps > baseline.steps):
        unmatched.append(
            f"the student's scheme took {student.steps} steps over its stages, the baseline {baseline.steps}"
        )
    return f" The baseline does not match in all: {'; '.join(unmatched)}." if unmatched else ""


def _teaching(plan: Plan) -> float:
    """Seconds in which teachers were scored, and their answers written down."""
    return plan.answering + sum(found.seconds for found in plan.examined.values())


def _best(finished: Sequence[Finished]) -> float:
    return _mean([trained.history[trained.best_epoch] for _, trained in finished])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _blocks(plan: Plan) -> torch.Tensor | None:
    """Number of the block of each labelled test sample, where they depend on each other."""
    test = plan.loaders("test", plan.settings.seed, False).slice
    return None if test.blocks is None else test.blocks[test.labelled]


def _write_evaluation(
    plan: Plan,
    students: Sequence[Finished],
    baselines: Sequence[Finished],
    first: Mapping[str, Answers],
    said: Mapping[str, list[Answers]],
    result: Mapping[str, Any],
) -> None:
    networks = {STUDENT: students[0][0], **({BASELINE: baselines[0][0]} if baselines else {})}
    networks |= {f"teacher:{name}": model for name, model in plan.teachers.items()}
    validation = {STUDENT: result["student"]["validation"]}
    validation |= {BASELINE: result["baseline"]["validation"]} if baselines else {}
    validation |= {f"teacher:{name}": found.validation for name, found in plan.examined.items()}
    models = {
        name: {
            **answers.metrics,
            **plan.task.describe(answers.kept, first[STUDENT].kept),
            "params": parameters(networks[name]),
            "macs": macs(networks[name], plan.input_shape),
            "latency_ms": latency(networks[name], plan.input_shape),
            "validation": validation[name],
        }
        for name, answers in first.items()
    }
    means = {
        name: [verdicts.value(a.scores(plan.task), plan.task.parts) for a in answers] for name, answers in said.items()
    }
    seeds = [
        {"seed": plan.settings.seed + k, STUDENT: s, BASELINE: means[BASELINE][k] if baselines else None}
        for k, s in enumerate(means[STUDENT])
    ]
    notes = [note for found in plan.examined.values() for note in found.notes]
    if plan.task.higher_is_better:
        notes += far_behind({name: found.validation for name, found in plan.examined.items()})
    notes += notes_of(plan.folder / "metrics.jsonl", *_stages(plan))
    evaluation = {"classes": list(plan.task.classes), "models": models, "seeds": seeds, "notes": notes}
    evaluation |= {
        "of_class": plan.task.of_class,
        "colours": plan.task.colours(),
        "verdict_method": result["verdict_method"],
        **plan.details,
    }
    tensors = {"index": first[STUDENT].index}
    for name, answers in first.items():
        tensors |= plan.task.compact(name, answers.kept)
    tensors |= _shown(plan, first)
    write_tensors(plan.folder / "evaluation.safetensors", tensors)
    write_json(plan.folder / "evaluation.json", evaluation)


def _shown(plan: Plan, first: Mapping[str, Answers]) -> dict[str, torch.Tensor]:
    """The pictures on which the student is farthest from its teachers, and what the task draws of the answers."""
    taught = [answers.kept for name, answers in first.items() if name.startswith("teacher:")]
    distance = plan.task.distance(first[STUDENT].kept, taught) if taught else None
    if distance is None:
        return {}
    positions = distance.topk(min(SHOWN, len(distance))).indices
    # The test loader gives samples in order; only labelled ones were answered.
    test = plan.loaders("test", plan.settings.seed, False).slice
    pictures = _as_bytes(test.gather(test.labelled.nonzero().flatten()[positions]))
    said = {name: answers.at(positions) for name, answers in first.items()}
    drawn = {f"pictures/panel/{name}": panel for name, panel in plan.task.panels(pictures, said).items()}
    scored = {f"pictures/score/{name}": scores for name, scores in plan.task.captions(said).items()}
    return {"pictures/image": pictures, "pictures/position": positions, **drawn, **scored}


def _as_bytes(pictures: torch.Tensor) -> torch.Tensor:
    return pictures if pictures.dtype == torch.uint8 else (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
