"""Runs with teachers on disk: when they are kept, what they save, and what the baseline sees."""

import json

import pytest
import torch
from torch import nn

from tutelage.cache import Store
from tutelage.cli.__main__ import main
from tutelage.cli.cache import cache
from tutelage.cli.distill import distill
from tutelage.data import Loader
from tutelage.errors import CacheError
from tutelage.teachers import Cached, Frozen


class Digit(nn.Module):
    """A small classifier of 8 x 8 digits that counts its forwards in each mode."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(64, width), nn.Linear(width, 10)

    def forward(self, x):
        return self.fc(self.body(x.mean(1).flatten(1)).relu())


def run(out, teacher=None, epochs=6, resume=False, **train):
    torch.manual_seed(5)
    options = {"epochs": epochs, "lr": 0.01, "optimizer": "adamw"} | train
    keys = {} if resume else {"train": options, "paths": ["logits", "pooled"]}
    teachers = {"big": teacher or Digit(24)}
    return distill(student=Digit(), teachers=teachers, data="digits", out=out, force=True, resume=resume, **keys)


@pytest.fixture
def views(monkeypatch):
    """Which views each loader of training pictures has shown: ``[(teachers were cached, views)]``."""
    seen: list[tuple[int | None, set]] = []
    plain = Loader.batch

    def batch(self, epoch, step):
        raw = plain(self, epoch, step)
        if self.augment is not None:
            seen.append((self.views, set(raw["view"].tolist())))
        return raw

    monkeypatch.setattr(Loader, "batch", batch)
    return seen


def test_a_run_keeps_answers_where_that_saves_forwards_and_the_baseline_sees_fresh_views(tmp_path, views):
    teacher = Digit(24)
    finished = run(tmp_path / "run", teacher)
    store = Store(tmp_path / "run" / "cache")
    assert store.record("big").views() == (0, 1, 2, 3)
    assert store.verify() == []
    shown = {kept: set().union(*(v for k, v in views if k == kept)) for kept in (4, None)}
    assert shown[4] == {0, 1, 2, 3}
    assert shown[None] == {0, 1, 2, 3, 4, 5}, "the baseline: a new view each epoch"
    assert "views: 4" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert "teachers' answers:" in (tmp_path / "run" / "run.log").read_text()
    assert finished.result["seconds"]["teachers"] > 0


def test_a_short_run_asks_its_teachers_live(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(Frozen, "forward", _noting(Frozen.forward, used))
    run(tmp_path / "run", epochs=4, log_every=1000)
    assert not (tmp_path / "run" / "cache").exists()
    assert used
    assert "views" not in (tmp_path / "run" / "recipe.yaml").read_text()


def _noting(forward, used):
    def noting(self, batch, peers):
        used.append(type(self).__name__)
        return forward(self, batch, peers)

    return noting


def test_a_cached_run_learns_what_a_live_run_on_the_same_views_learns(tmp_path):
    students = []
    for kept in ("auto", "live"):
        torch.manual_seed(5)
        train = {"epochs": 5, "lr": 0.01, "optimizer": "adamw", "cache": kept}
        done = distill(
            student=Digit(), teachers={"big": Digit(24)}, data="digits", out=tmp_path / kept, force=True, train=train,
            assignments=["data.views=4"], paths=["logits", "pooled"], baseline=False,
        )  # fmt: skip
        students.append(done.student)
    assert (tmp_path / "auto" / "cache").exists()
    assert not (tmp_path / "live" / "cache").exists()
    for found, expected in zip(*(student.parameters() for student in students), strict=True):
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.005)


def test_the_command_fills_a_store_and_runs_read_it_instead_of_asking_a_teacher(tmp_path):
    teacher, heard = Digit(24), []
    teacher.register_forward_pre_hook(lambda _, given: heard.append(len(given[0])))
    given = {"teachers": {"big": teacher}, "data": "digits", "force": True, "paths": ["logits", "pooled"]}
    done = cache(student=Digit(), store=tmp_path / "store", assignments=["data.views=2"], top_k=3, **given)
    assert done["forwards"] == sum(len(views) * n for views, n in _counted(done, tmp_path / "store"))
    assert done["teachers"]["big"]["views"] == {"train": (0, 1), "guard": (-1,), "selection": (-1,)}
    asked, scores = [], []
    for epochs in (2, 4):
        before = sum(heard)
        train = {"epochs": epochs, "cache": str(tmp_path / "store"), "lr": 0.01}
        finished = distill(
            student=Digit(), out=tmp_path / f"run{epochs}", assignments=["data.views=2"], train=train,
            baseline=False, **given,
        )  # fmt: skip
        asked.append(sum(heard) - before)
        evaluated = json.loads((tmp_path / f"run{epochs}" / "evaluation.json").read_text())
        scores.append(evaluated["models"]["teacher:big"])
    assert asked[0] >= 359, "the first run asks for the test split, when it reads it"
    assert asked[1] < 200, "the next only looks at shapes, costs and latency"
    assert scores[0]["accuracy"] == scores[1]["accuracy"]
    assert finished.result["teachers"]["big"]["validation"] > 0


def _counted(done, folder):
    parts = Store(folder).manifest.parts
    return [(views, parts[part].samples) for part, views in done["teachers"]["big"]["views"].items()]


def test_answers_that_do_not_fit_are_not_kept_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tutelage.cli.cache.request", _with_limit(1000.0))
    run(tmp_path / "run", epochs=5)
    assert "teachers are asked live: their answers are not kept, they would take" in capsys.readouterr().err
    assert "cache: live" in (tmp_path / "run" / "recipe.yaml").read_text()


def _with_limit(limit):
    import dataclasses

    from tutelage.cli.cache import request

    return lambda *args: dataclasses.replace(request(*args), limit=limit)


def test_a_store_holds_every_tap_of_a_path(tmp_path):
    taps = {"student": ["body", "fc:input"], "teacher": {"big": ["body", "fc:input"]}}
    cache(
        student=Digit(),
        teachers={"big": Digit(24)},
        data="digits",
        store=tmp_path / "store",
        assignments=["data.views=1", "data.limit=200"],
        paths={"two": {"loss": "hierarchical_context", **taps}},
        force=True,
    )
    assert set(Store(tmp_path / "store").record("big").entry.taps) == {"", "body", "fc:input"}


def test_a_store_of_other_data_is_refused_before_training(tmp_path):
    given = {"teachers": {"big": Digit(24)}, "data": "digits", "force": True}
    cache(student=Digit(), store=tmp_path / "store", assignments=["data.views=1", "data.limit=500"], **given)
    with pytest.raises(CacheError, match="made for another slice 'train'"):
        distill(
            student=Digit(),
            out=tmp_path / "run",
            train={"epochs": 2, "cache": str(tmp_path / "store")},
            **given,
        )


def test_a_store_that_would_take_too_long_is_refused_before_it_is_begun(tmp_path):
    with pytest.raises(CacheError, match=r"expected at most 1e-09 hours of teachers' forwards, found"):
        cache(student=Digit(), teachers={"big": Digit(24)}, data="digits", store=tmp_path / "s", force=True, hours=1e-9)
    assert not (tmp_path / "s").exists()


def test_offloaded_teachers_teach_the_same(tmp_path):
    students = []
    for offload in (None, str(tmp_path / "weights")):
        torch.manual_seed(5)
        train = {"epochs": 1, "lr": 0.01, "cache": "live", "offload": offload}
        done = distill(
            student=Digit(), teachers={"big": Digit(24)}, data="digits", out=tmp_path / str(offload is None),
            force=True, train=train, paths=["logits", "pooled"], baseline=False,
        )  # fmt: skip
        students.append(done.student)
    for found, expected in zip(*(student.parameters() for student in students), strict=True):
        assert torch.equal(found, expected)


def test_the_command_is_offered_and_its_options_are_checked(tmp_path, capsys):
    assert main(["cache", "--help"]) == 0
    assert "--store" in capsys.readouterr().out
    assert main(["cache", "--student", "cifar/resnet8", "--data", "digits", "--store", str(tmp_path / "s")]) == 2
    assert "expected at least one teacher" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_with_its_store(tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    teacher, batches = Digit(24), []
    plain = Cached.forward

    def stopping(self, batch, peers):
        batches.append(len(batch))
        if len(batches) == 40:
            raise Stop
        return plain(self, batch, peers)

    monkeypatch.setattr(Cached, "forward", stopping)
    with pytest.raises(Stop):
        run(tmp_path / "run", teacher)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "cache").rglob("*.safetensors")}
    done = run(tmp_path / "run", teacher, resume=True)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert json.loads((tmp_path / "run" / "result.json").read_text())["verdict"] == done.verdict
