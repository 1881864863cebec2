"""A run folder as it lies on disk, finished or not."""

import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tutelage.errors import RunError

SCHEMA = 1
"""The schema of ``result.json`` that is understood here."""

MARKS = ("recipe.yaml", "manifest.json", "metrics.jsonl", "result.json")
"""A folder that holds one of these is a run folder."""

Json = Mapping[str, Any]


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class Run:
    """What a run left on disk; what it has not written yet is empty and named in `missing`.

    Args:
        folder: The run folder.
        name: What the page calls it: the folder's own name.
        result: ``result.json``; empty while the run goes on.
        manifest: ``manifest.json``.
        recipe: The text of ``recipe.yaml``.
        train: The training lines of ``metrics.jsonl``, in their order.
        validation: Its validation lines.
        by_class: Its lines with the weights by class.
        left_out: ``leave_one_out.json``: what each teacher and path brought, where a bench asked for it.
        evaluation: ``evaluation.json``.
        samples: ``evaluation.safetensors``: what each model said about each test sample.
        missing: A sentence for everything that is not there, and what that costs the reader.
    """

    folder: pathlib.Path
    name: str
    result: Json
    manifest: Json
    recipe: str
    train: tuple[Json, ...]
    validation: tuple[Json, ...]
    by_class: tuple[Json, ...]
    left_out: Json
    evaluation: Json
    samples: Mapping[str, Tensor]
    missing: tuple[str, ...]

    @property
    def models(self) -> Mapping[str, Json]:
        """The evaluated models: teachers first, then ``baseline``, then ``student``."""
        models = self.evaluation.get("models", {})
        last = [name for name in ("baseline", "student") if name in models]
        return {name: models[name] for name in [*(m for m in models if m not in last), *last]}

    @property
    def metric(self) -> str:
        """The name of the metric that decides."""
        return str(self.result.get("metric", "accuracy"))

    def test(self, model: str) -> float | None:
        """What `model` (a key of `models`) reached on the test split: by the result, else the evaluation."""
        measured = self.models.get(model, {})
        known = self.result.get(model) or {}
        value = known.get("test", measured.get(self.metric, measured.get("accuracy")))
        return None if value is None else float(value)

    @property
    def best_teacher(self) -> str | None:
        """The teacher (``teacher:NAME``) that is best on the test split."""
        sign = 1 if self.result.get("higher_is_better", True) else -1
        scores = {name: self.test(name) for name in self.models if name.startswith("teacher:")}
        known = {name: sign * score for name, score in scores.items() if score is not None}
        return max(known, key=lambda name: known[name], default=None)

    def stages(self, kind: str) -> dict[str, list[Json]]:
        """The lines of one kind (``train`` or ``validation``) by the stage that wrote them."""
        stages: dict[str, list[Json]] = {}
        for line in self.train if kind == "train" else self.validation:
            stages.setdefault(str(line.get("stage", "student")), []).append(line)
        return stages

    @property
    def lessons(self) -> list[Json]:
        """The training lines of the stage in which the student was taught (its first seed)."""
        stages = self.stages("train")
        taught = [stage for stage in stages if self.role(stage) != "baseline"]
        return stages.get("student") or (stages[taught[-1]] if taught else [])

    @property
    def taught(self) -> bool:
        """Whether a teacher had a word in the student's loss; plain training has none."""
        return any(self.split(row)[1] for row in self.rows)

    @property
    def rows(self) -> list[str]:
        """The names of the ledger's rows, in the order they were first logged."""
        return list(dict.fromkeys(row for line in self.lessons for row in line.get("losses", {})))

    @staticmethod
    def role(stage: str) -> str:
        """``student-seed1`` is the student again."""
        return stage.split("-seed", maxsplit=1)[0]

    @staticmethod
    def split(row: str) -> tuple[str, str | None]:
        """``path/teacher`` as a pair; a row of the task itself has no teacher.

        Example:
            >>> Run.split("logits/big"), Run.split("base")
            (('logits', 'big'), ('base', None))
        """
        path, _, teacher = row.partition("/")
        return path, teacher or None

    @staticmethod
    def label(model: str) -> str:
        """``teacher:big`` as people say it: ``teacher big``."""
        return model.replace(":", " ", 1)


def read(run: str | os.PathLike[str]) -> Run:
    """Read a run folder, also one whose run goes on or was interrupted.

    Args:
        run: The folder.

    Returns:
        What lies there. A torn last line of ``metrics.jsonl`` is dropped.

    Raises:
        RunError: It is no run folder, one of its files is damaged, or it was written by a later version.
    """
    folder = pathlib.Path(run)
    if not any((folder / name).is_file() for name in MARKS):
        raise RunError(
            f"expected a run folder, found {'no folder' if not folder.is_dir() else 'none of its files'} at "
            f"'{folder}' (looked for {', '.join(MARKS)}). Give the folder that was named by --out."
        )
    result = _json(folder / "result.json")
    if result and result.get("schema") != SCHEMA:
        raise RunError(
            f"expected schema {SCHEMA} in '{folder / 'result.json'}', found {result.get('schema')!r}: "
            "it was written by another version of tutelage. Report it with that version."
        )
    lines, skipped = _lines(folder / "metrics.jsonl")
    evaluation = _json(folder / "evaluation.json")
    samples = _tensors(folder / "evaluation.safetensors")
    recipe = folder / "recipe.yaml"
    return Run(
        folder=folder,
        name=folder.resolve().name,
        result=result,
        manifest=_json(folder / "manifest.json"),
        recipe=recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else "",
        train=tuple(line for line in lines if line.get("kind") == "train"),
        validation=tuple(line for line in lines if line.get("kind") == "validation"),
        by_class=tuple(line for line in lines if line.get("kind") == "by_class"),
        left_out=_json(folder / "leave_one_out.json"),
        evaluation=evaluation,
        samples=samples,
        missing=tuple(_missing(folder, result, evaluation, skipped)),
    )


def _missing(folder: pathlib.Path, result: Json, evaluation: Json, skipped: list[int]) -> list[str]:
    told = {
        "result.json": "There is no test result and no verdict yet; --resume continues the run.",
        "evaluation.json": "Nothing was evaluated on the test split yet: no classes, no confusion.",
        "evaluation.safetensors": "Single predictions are not stored: no reliability diagram, no pictures.",
        "metrics.jsonl": "Nothing was logged yet: no curves and no weights.",
        "manifest.json": "Versions, hardware and seeds are unknown.",
        "recipe.yaml": "The recipe is unknown.",
    }
    notes = [f"{text} ({name} is not there.)" for name, text in told.items() if not (folder / name).is_file()]
    if result.get("teachers") and result.get("baseline") is None:
        notes.append("No baseline was trained: what the teachers brought cannot be told apart from plain training.")
    elif result.get("baseline") and evaluation and "baseline" not in evaluation.get("models", {}):
        notes.append("The baseline was not evaluated on the test split.")
    if skipped:
        lines = ", ".join(map(str, skipped[:5])) + (", …" if len(skipped) > 5 else "")
        notes.append(f"{len(skipped)} unreadable line(s) of metrics.jsonl left out: {lines}.")
    return notes


def _json(file: pathlib.Path) -> Json:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"expected JSON in '{file}', found {error}. Restore the file or run again.") from None
    if not isinstance(content, dict):
        raise RunError(f"expected a JSON object in '{file}', found a {type(content).__name__}.")
    return content


def _lines(file: pathlib.Path) -> tuple[list[Json], list[int]]:
    """The lines that are JSON objects, and the numbers of those that are not; a torn last line is neither."""
    if not file.is_file():
        return [], []
    raw = file.read_bytes().split(b"\n")
    lines: list[Json] = []
    skipped: list[int] = []
    for number, text in enumerate(raw, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        elif number < len(raw):
            skipped.append(number)
    return lines, skipped


def _tensors(file: pathlib.Path) -> dict[str, Tensor]:
    if not file.is_file():
        return {}
    try:
        return load_file(file)
    except SafetensorError as error:
        raise RunError(f"expected safetensors in '{file}', found {error}. Evaluate the run again.") from None
