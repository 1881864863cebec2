"""A whole run of one or several seeds, with schemes of one or several stages."""

import json

import pytest
import torch
from torch import nn

from tutelage import Distiller, Frozen, Path
from tutelage.data import Loader, open_data
from tutelage.engine import Settings
from tutelage.engine.examine import Examined
from tutelage.engine.journal import Journal
from tutelage.engine.run import Plan, run
from tutelage.losses import kl
from tutelage.schemes import Stage, offline
from tutelage.tasks import Classification
from tutelage.weighting import Fixed

DIGITS = open_data("digits", limit=320)
TASK = Classification(DIGITS.classes)


def network(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10))


NETWORKS = {"big": network(32, 101), "wide": network(64, 102)}


class Cast:
    """Two teachers, of which `wide` is shut in every seed but the first."""

    networks = NETWORKS

    def __init__(self, seed):
        self.seed = seed

    def model(self, role):
        return network(8, self.seed)

    def teachers(self):
        return {name: Frozen(taught) for name, taught in NETWORKS.items()}

    def distiller(self, model, teachers):
        shut = {"logits/wide": 0.0} if teachers and self.seed else {}
        paths = {"logits": Path(kl)} if teachers else {}
        return Distiller(model, teachers=teachers, paths=paths, task=TASK, weighting=Fixed(shut))

    def release(self, pupil):
        return pupil.eval()


def loaders(part, seed, baseline):
    options = {} if part == "train" else {"shuffle": False, "drop_last": False}
    return Loader(getattr(DIGITS, part), batch_size=64, seed=seed, augment=None, **options)


def go(folder, scheme=offline, *, seeds=1, baseline=True, **settings):
    """The result of a run, and its lines of metrics.jsonl."""
    plan = Plan(
        folder=folder,
        task=TASK,
        cast=Cast,
        scheme=scheme,
        loaders=loaders,
        settings=Settings(**{"epochs": 1, "log_every": 2, "accelerator": "cpu"} | settings),
        seeds=seeds,
        baseline=baseline,
        teachers=NETWORKS,
        examined={name: Examined(0.5, 100.0, ()) for name in NETWORKS},
        input_shape=DIGITS.train.shape,
        details={"losses": {"logits": "kl"}},
    )
    result = run(plan, Journal(folder)).result
    return result, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def notes(folder):
    return json.loads((folder / "evaluation.json").read_text())["notes"]


def left(folder):
    """What the stages of a run left, by name."""
    stages = (folder / "checkpoints" / "stages").iterdir()
    return {stage.name: json.loads((stage / "done.json").read_text()) for stage in stages}


def warm(cast):
    """The student goes on from a network that was trained before it."""
    first = cast.model("student")
    yield Stage("first", {"first": cast.distiller(first, {})})
    student = cast.model("student")
    student.load_state_dict(first.state_dict())
    yield Stage("student", {"student": cast.distiller(student, cast.teachers())})


def beside(cast):
    """Another network is trained before the student, which starts as its baseline does."""
    yield Stage("other", {"other": cast.distiller(network(16, 5), {})})
    yield from offline(cast)


def longer(cast):
    """The student has more epochs than its baseline."""
    yield Stage("student", {"student": cast.distiller(cast.model("student"), cast.teachers())}, epochs=2)


def elsewhere(cast):
    """The student starts from other weights."""
    yield Stage("student", {"student": cast.distiller(network(8, 99), cast.teachers())})


def test_mean_weights_and_notes_are_those_of_all_seeds(tmp_path):
    result, _ = go(tmp_path, seeds=2, baseline=False)
    assert {name: told["mean_weight"] for name, told in result["teachers"].items()} == {"big": 1.0, "wide": 0.5}
    assert result["paths"]["logits"]["mean_weight"] == 0.75
    assert [note for note in notes(tmp_path) if "hardly heard" in note] == [
        "seed 1: teacher wide was hardly heard: in the median of its paths it had 0% of the weight, "
        "an equal share is 50%."
    ]


def test_lines_say_how_many_steps_they_cover(tmp_path):
    _, lines = go(tmp_path, baseline=False)
    steps = [line["steps"] for line in lines if line["kind"] == "train"]
    assert sum(steps) == len(loaders("train", 0, False))
    assert steps[:-1] == [2] * (len(steps) - 1)


def test_the_seconds_of_a_student_are_those_of_all_its_stages(tmp_path):
    result, _ = go(tmp_path, warm)
    stages = left(tmp_path)
    student = stages["first"]["seconds"] + stages["student"]["seconds"]
    assert result["seconds"]["student"] == pytest.approx(student, abs=0.006)
    assert result["seconds"]["teachers"] == 200
    assert result["seconds"]["total"] > 200 + result["seconds"]["student"] + result["seconds"]["baseline"]
    samples = 64 * (stages["first"]["steps"] + stages["student"]["steps"])
    assert result["samples_per_second"] == pytest.approx(samples / student, abs=0.06)


@pytest.mark.parametrize("scheme", [offline, beside])
def test_of_a_baseline_that_matches_nothing_is_said(tmp_path, scheme):
    result, _ = go(tmp_path, scheme)
    assert "baseline" not in result["verdict_method"]


STARTED = "the student did not start from the baseline's initial weights"
STEPS = "the student's scheme took 10 steps over its stages, the baseline 5"


@pytest.mark.parametrize(
    ("scheme", "said"),
    [(warm, f"{STARTED}; {STEPS}"), (longer, STEPS), (elsewhere, STARTED)],
)
def test_a_baseline_that_does_not_match_is_told_with_the_verdict(tmp_path, scheme, said):
    result, _ = go(tmp_path, scheme)
    assert result["verdict_method"].endswith(f" The baseline does not match in all: {said}.")
    assert json.loads((tmp_path / "evaluation.json").read_text())["verdict_method"] == result["verdict_method"]


def test_without_a_baseline_there_is_nothing_to_match(tmp_path):
    result, _ = go(tmp_path, warm, baseline=False)
    assert result["verdict_method"] is None


def test_a_baseline_that_lost_patience_earlier_matches(tmp_path, monkeypatch):
    found = iter([0.5, 0.6, 0.6, 0.5, 0.5])
    monkeypatch.setattr("tutelage.engine.module.processes.of_first", lambda value: next(found))
    result, _ = go(tmp_path, epochs=8, patience=1)
    assert {name: len(told["history"]) for name, told in left(tmp_path).items()} == {"student": 3, "baseline": 2}
    assert "baseline" not in result["verdict_method"]
