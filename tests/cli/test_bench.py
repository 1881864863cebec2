"""The leaderboard through the real command line: equal starts, refusals, resumption, numbers recomputed by hand."""

import dataclasses
import errno
import functools
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time
import types
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tutelage import verdict
from tutelage.bench.results import pack, unpack
from tutelage.cli.bench import bench
from tutelage.engine import hardware
from tutelage.errors import RecipeError, RunError

SMALL = ["--set", "data.limit=192", "--set", "data.batch_size=32", "--set", "train.log_every=2"]
SMALL += ["--set", "train.epochs=1", "--set", "train.checkpoint_every=0.0"]
PATHS = ["--set", "paths=[logits, pooled]"]
KEYS = {"schema", "task", "metric", "higher_is_better", "finished", "runs_done", "runs", "failed", "seeds", "against"}
KEYS |= {"leaderboard", "leave_one_out", "whole", "refused", "notes", "teachers", "data", "folders", "command"}
KEYS |= {"versions", "hardware"}


def job(teacher: pathlib.Path, out: pathlib.Path, *more: str) -> list[str]:
    given = ["bench", "--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--teacher", f"again={teacher}"]
    return [*given, "--data", "digits", "--out", str(out), *SMALL, *PATHS, "--seeds", "2", *more]


def lines(out: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(teacher, tmp_path_factory) -> pathlib.Path:
    """A finished bench of two methods, and the first without its parts."""
    from tutelage.cli.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "bench"
    assert main(job(teacher, out, "--methods", "auto,plain", "--leave-one-out")) == 0
    return out


def test_every_method_and_seed_has_one_line_with_the_score_of_each_sample(whole):
    found = {(line["method"], line["seed"]) for line in lines(whole)}
    left = ["teacher big", "teacher again", "path logits", "path pooled"]
    names = ["auto", "plain", *(f"auto without {part}" for part in left)]
    assert found == {(name, seed) for name in names for seed in (0, 1)}
    assert len(lines(whole)) == len(found)
    for line in lines(whole):
        assert line["test"] == pytest.approx(float(unpack(line["scores"]).mean()), abs=1e-6)


def test_the_budget_is_equal(whole):
    assert len({line["steps"] for line in lines(whole)}) == 1


def test_the_leaderboard_is_what_the_lines_say(whole):
    board = json.loads((whole / "bench.json").read_text())
    assert set(board) == KEYS
    assert board["finished"] is True
    of = {name: [line for line in lines(whole) if line["method"] == name] for name in ("auto", "plain")}
    tests = {name: [line["test"] for line in sorted(told, key=lambda t: t["seed"])] for name, told in of.items()}
    rows = {row["method"]: row for row in board["leaderboard"]}
    assert set(rows) == {"auto", "plain"}
    best = max(tests, key=lambda name: statistics.mean(tests[name]))
    assert board["leaderboard"][0]["method"] == best
    scores = {
        name: torch.stack([unpack(line["scores"]) for line in sorted(told, key=lambda t: t["seed"])])
        for name, told in of.items()
    }
    (targets,) = whole.glob("targets-*.safetensors")
    judged = verdict.judge(scores["auto"], scores["plain"], groups=load_file(targets)["target"])
    told = rows["auto"]["against"]["plain"]
    assert told["delta"] == pytest.approx(judged.delta)
    assert told["delta"] == pytest.approx(statistics.mean(tests["auto"]) - statistics.mean(tests["plain"]), abs=1e-6)
    assert told["interval"] == pytest.approx(list(judged.interval))
    if told["interval"][0] <= 0 <= told["interval"][1]:
        assert told["verdict"] == "not resolved"


def test_what_each_part_brings_is_told_in_the_table_the_page_and_the_run(whole):
    board = json.loads((whole / "bench.json").read_text())
    assert [f"{row['kind']} {row['name']}" for row in board["leave_one_out"]] == [
        "teacher big",
        "teacher again",
        "path logits",
        "path pooled",
    ]
    mean = {
        name: statistics.mean(line["test"] for line in lines(whole) if line["method"] == name)
        for name in ("auto", "auto without path logits")
    }
    assert board["leave_one_out"][2]["delta"] == pytest.approx(
        mean["auto"] - mean["auto without path logits"], abs=1e-6
    )
    page = (whole / "bench.html").read_text()
    for text in ("Leaderboard", "What each part brings", "teacher again", 'id="bench-differences"'):
        assert text in page
    folder = whole / board["folders"]["auto"][0]
    assert json.loads((folder / "leave_one_out.json").read_text())["parts"] == board["leave_one_out"]


def test_methods_share_one_store_and_keep_their_runs(whole):
    (first,) = whole.glob("runs/auto-seed0-*")
    for name in ("recipe.yaml", "manifest.json", "metrics.jsonl", "checkpoints/stages/student/best.ckpt"):
        assert (first / name).exists(), name
    assert (whole / "cache" / "manifest.json").exists()
    assert [line["live"] for line in lines(whole)] == [False] * len(lines(whole))


@pytest.mark.parametrize("cache", ["auto", "store"])
def test_a_scheme_that_changes_its_teachers_asks_them_beside_those_that_share_a_store(
    teacher, tutelage, tmp_path, cache
):
    parts = {"loss": "kl", "student": "linear.split", "teacher": "linear.split"}
    methods = {"parts": {"paths": {"taught": parts}, "scheme": {"use": "subclasses", "epochs": 1}}}
    (tmp_path / "bench.yaml").write_text(json.dumps({"methods": methods}))
    asked = [
        "bench",
        str(tmp_path / "bench.yaml"),
        *job(teacher, tmp_path / "bench", "--methods", "plain,kd,parts")[1:],
    ]
    place = "auto" if cache == "auto" else str(tmp_path / "store")
    code, _, message = tutelage(*asked, "--set", f"train.cache={place}", "--seeds", "1")
    assert code == 0, message
    assert {line["method"]: line["live"] for line in lines(tmp_path / "bench")} == {
        "plain": False,
        "kd": False,
        "parts": True,
    }


def test_running_again_runs_nothing_and_adds_what_is_new(whole, teacher, tutelage, tmp_path):
    whole = shutil.copytree(whole, tmp_path / "bench")
    before = (whole / "results.jsonl").read_bytes()
    code, printed, message = tutelage(*job(teacher, whole, "--methods", "plain,auto", "--json"))
    assert code == 0
    assert (whole / "results.jsonl").read_bytes() == before
    assert json.loads(printed)["runs_done"] == 4
    assert "4 done" in message
    code, printed, _ = tutelage(*job(teacher, whole, "--methods", "auto@big/x"))
    assert code == 2
    code, printed, _ = tutelage(*job(teacher, whole, "--methods", "kd", "--against", "kd", "--json", "--seeds", "1"))
    assert code == 0
    assert (whole / "results.jsonl").read_bytes().startswith(before)
    assert len(lines(whole)) == before.count(b"\n") + 1  # plain was there
    assert list(json.loads(printed)["leaderboard"][0]["against"]) in (["plain"], ["kd"], ["plain", "kd"])


def test_runs_in_another_precision_are_not_taken_for_done(whole, teacher, tutelage, monkeypatch):
    def done(*more: str) -> int:
        code, printed, message = tutelage(*job(teacher, whole, "--methods", "auto,plain", *more), "--dry-run", "--json")
        assert code == 0, message
        return json.loads(printed)["runs_done"]

    here = hardware.computes_bf16()
    assert done() == done("--set", f"train.precision={'bf16' if here else 'float32'}") == 4
    monkeypatch.setattr(hardware, "computes_bf16", lambda *_: not here)
    assert done() == 0


def test_runs_of_another_version_are_kept_and_told(whole, teacher, tutelage, tmp_path):
    whole = shutil.copytree(whole, tmp_path / "bench")
    asked = [*job(teacher, whole, "--methods", "auto,plain"), "--dry-run", "--json"]
    assert "by tutelage" not in tutelage(*asked)[2]
    older = [line | {"versions": line["versions"] | {"tutelage": "0.0.1"}} for line in lines(whole)]
    (whole / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in older))
    code, printed, message = tutelage(*asked)
    assert (code, json.loads(printed)["runs_done"]) == (0, 4)
    assert "4 runs by tutelage 0.0.1, this is" in message


def test_a_run_that_diverges_does_not_stop_the_others(teacher, tutelage, tmp_path):
    loud = {"paths": ["logits"], "weighting": {"scale": {"use": "fixed", "logits": 1e38}}}
    (tmp_path / "bench.yaml").write_text(json.dumps({"methods": {"loud": loud}}))
    out = tmp_path / "bench"
    asked = ["bench", str(tmp_path / "bench.yaml"), *job(teacher, out, "--methods", "loud,plain,kd")[1:]]
    code, _, message = tutelage(*asked, "--set", "train.epochs=6", "--seeds", "1")
    assert code == 2, message
    assert "left out: loud, seed 0: step" in message
    assert "1 run of the table could not be finished:\n  loud, seed 0: step" in message
    assert sorted(line["method"] for line in lines(out)) == ["kd", "plain"]
    board = json.loads((out / "bench.json").read_text())
    assert (board["finished"], board["runs_done"], board["runs"]) == (False, 2, 3)
    assert {row["method"] for row in board["leaderboard"]} == {"plain", "kd"}
    assert [(run["method"], run["seed"], run["reason"][:5]) for run in board["failed"]] == [("loud", 0, "step ")]
    assert board["failed"][0]["reason"] in message
    page = (out / "bench.html").read_text()
    assert "Runs that failed" in page
    assert "2 of 3 runs are finished, 1 failed (below): the same command tries it again, from the start." in page


@pytest.fixture
def fails(monkeypatch):
    """Lets the next runs of a method end in an error, once their student is trained."""
    from tutelage.engine import run

    errors: dict[str, Exception] = {}
    whole = run.trial

    def trial(plan, *given, **more):
        done = whole(plan, *given, **more)
        if error := errors.get(plan.folder.name.partition("-")[0]):
            raise error
        return done

    monkeypatch.setattr(run, "trial", trial)
    return errors


def test_a_run_that_failed_is_told_until_it_succeeds_or_is_not_asked_for(teacher, tutelage, fails, tmp_path):
    out = tmp_path / "bench"
    asked = job(teacher, out, "--methods", "plain,kd", "--seeds", "1")

    def told(*more: str) -> tuple[int, list, str]:
        code, _, message = tutelage(*asked, *more)
        return code, json.loads((out / "bench.json").read_text())["failed"], message

    fails["kd"] = RunError("step 3: kl/big not finite.")
    code, failed, message = told()
    assert (code, failed) == (2, [{"method": "kd", "seed": 0, "reason": "step 3: kl/big not finite."}])
    assert "tries it again, from the start" in message
    (first,) = out.glob("runs/kd-*")
    assert first.name.endswith("-failed")
    code, printed, message = tutelage(*asked, "--dry-run", "--json")
    assert (code, json.loads(printed)["failed"]) == (0, failed)
    assert "1 run failed before and is tried again:\n  kd, seed 0: step 3: kl/big not finite." in message
    assert told("--methods", "plain")[:2] == (0, [])
    fails["kd"] = RunError("step 4: kl/again not finite.")
    assert told()[:2] == (2, [failed[0] | {"reason": "step 4: kl/again not finite."}])
    assert [line["method"] for line in lines(out)] == ["plain"]
    fails.clear()
    assert told()[:2] == (0, [])
    metrics = {folder.name: (folder / "metrics.jsonl").read_text().count('"kind": "train"') for folder in
               out.glob("runs/kd-*")}  # fmt: skip
    assert len(metrics) == 2  # the one that failed last is kept beside the one that did not
    assert len(set(metrics.values())) == 1  # which began from the start


def test_a_full_disk_is_no_failure_of_the_run(teacher, tutelage, fails, tmp_path):
    out = tmp_path / "bench"
    full = RunError("expected to write checkpoints here")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    fails["plain"] = full
    code, _, message = tutelage(*job(teacher, out, "--methods", "plain,kd", "--seeds", "1"))
    assert code == 2
    assert f"Make room, then go on: tutelage bench --out {out} --resume" in message
    assert not any(out.glob("runs/*-failed"))
    fails.clear()
    code, printed, _ = tutelage("bench", "--out", out, "--resume", "--json")
    assert (code, json.loads(printed)["failed"]) == (0, [])


def test_scores_that_are_no_numbers_are_a_failure_and_stop_nothing(teacher, tutelage, monkeypatch, tmp_path):
    from tutelage.engine import run

    out, whole, asked = tmp_path / "bench", run.trial, []

    def trial(*given, **more):
        done = whole(*given, **more)
        scores = done.said.scores(given[0].task)
        asked.append(scores)
        scores[2:4] = torch.nan if len(asked) == 1 else scores[2:4]
        return dataclasses.replace(done, said=types.SimpleNamespace(scores=lambda task: scores))

    monkeypatch.setattr(run, "trial", trial)
    given = job(teacher, out, "--methods", "plain,kd", "--seeds", "1")
    code, _, message = tutelage(*given)
    assert code == 2
    assert "plain, seed 0: expected a finite score for every test sample, found NaN or infinity for 2 of" in message
    assert [line["method"] for line in lines(out)] == ["kd"]
    assert tutelage(*given)[0] == 0


def test_lines_of_before_whose_scores_are_no_numbers_are_left_out(whole, teacher, tutelage, tmp_path):
    whole = shutil.copytree(whole, tmp_path / "bench")
    older = lines(whole)
    (lost,) = [line for line in older if (line["method"], line["seed"]) == ("auto", 1)]
    scores = unpack(lost["scores"])
    scores[3] = torch.nan
    lost["scores"] = pack(scores)
    (whole / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in older))
    asked = [*job(teacher, whole, "--methods", "auto,plain"), "--dry-run", "--json"]
    code, printed, message = tutelage(*asked)
    assert (code, json.loads(printed)["runs_done"]) == (0, 3), message
    assert "auto, seed 1: left out, its scores hold NaN or infinity" in message


class Tiny(nn.Module):
    """A network of which neither weights nor layers tell all: its slope is a plain number."""

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head, self.slope = nn.Linear(64, 16), nn.Linear(16, 10), slope

    def extra_repr(self) -> str:
        return f"made by {object()}"  # at another address each time

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.leaky_relu(self.hidden(x.flatten(1)), self.slope))


LIVE = {"data": {"use": "digits", "limit": 96, "batch_size": 32}, "train": {"epochs": 1, "cache": "live"}}


def place(out: pathlib.Path, method: str, **models: Any) -> str:
    """The run folder of a method, which another key would change."""
    given = {"methods": [method], "seeds": 1, "against": method, "dry_run": True, "force": True}
    return bench({**LIVE, "paths": ["kl"]}, out=out, **given, **models)["folders"][method][0]


def test_a_module_that_computes_something_else_is_another_model(tmp_path):
    out = tmp_path / "bench"
    assert place(out, "plain", student=Tiny()) == place(out, "plain", student=Tiny())
    assert place(out, "plain", student=Tiny()) != place(out, "plain", student=Tiny(0.5))
    kd = {slope: place(out, "kd", student="cifar/resnet8", teachers={"big": Tiny(slope)}) for slope in (0.0, 0.5)}
    assert kd[0.0] != kd[0.5]
    assert kd[0.0] == place(out, "kd", student="cifar/resnet8", teachers={"big": Tiny()})


def test_so_it_is_with_a_factory_of_the_users(tmp_path, monkeypatch):
    lab = types.ModuleType("a_lab_of_the_users")
    lab.tiny = Tiny
    monkeypatch.setitem(sys.modules, lab.__name__, lab)
    given = {"student": "a_lab_of_the_users:tiny", "allow_import": [lab.__name__]}
    first = place(tmp_path, "plain", **given)
    assert place(tmp_path, "plain", **given) == first
    lab.tiny = functools.partial(Tiny, 0.5)
    assert place(tmp_path, "plain", **given) != first


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> pathlib.Path:
    """A few pictures to enlarge."""
    folder, draws = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(12):
        colours = draws.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


ENLARGED = {"data": {"batch_size": 4, "patch": 16, "patches": 1}, "train": {"epochs": 1}}


@pytest.mark.parametrize("none", [{}, {"teachers": {}}], ids=["unsaid", "none"])
def test_a_scheme_that_brings_its_teacher_needs_none(pictures, tmp_path, none):
    methods = {"seeing": {"scheme": {"use": "privileged"}, **none}}
    given = {"student": "sr/fsrcnn", "data": str(pictures), "out": tmp_path / "bench", "seeds": 1}
    told = bench({**ENLARGED, "methods": methods}, methods=["plain", "seeing"], **given)
    assert {row["method"] for row in told["leaderboard"]} == {"plain", "seeing"}
    stages = {}
    for method, (run,) in told["folders"].items():
        logged = (tmp_path / "bench" / run / "metrics.jsonl").read_text().splitlines()
        stages[method] = {json.loads(line)["stage"] for line in logged}
    assert stages == {"plain": {"student"}, "seeing": {"teacher-privileged", "student"}}


def test_a_scheme_without_anybody_who_teaches_is_refused_by_name(pictures, tmp_path):
    methods = {"lonely": {"scheme": "subclasses", "teachers": {}}, "unsaid": {"scheme": "subclasses"}}
    given = {"student": "sr/fsrcnn", "data": str(pictures), "out": tmp_path / "bench", "seeds": 1}
    with pytest.raises(RecipeError) as refused:
        bench({**ENLARGED, "methods": methods}, methods=["plain", *methods], **given)
    told = str(refused.value)
    assert "lonely: the scheme 'subclasses' brings no teacher, and none is heard (teachers: {}). Leave out" in told
    assert "unsaid: it needs a teacher, and none was given." in told


def test_all_methods_are_built_before_any_is_trained(teacher, tutelage, tmp_path):
    out = tmp_path / "bench"
    methods = ["--methods", "plain,FT,fsp/entirely", "--dry-run"]
    code, _, message = tutelage(*job(teacher, out, *methods))
    assert code == 2
    assert "'entirely'" in message  # a misspelt name is no method that could be left out
    code, printed, message = tutelage(*job(teacher, out, "--methods", "plain,FT"))
    assert code == 2
    assert "FT: path 'ft'" in message
    assert "--skip-refused" in message
    assert not out.exists()
    code, printed, _ = tutelage(*job(teacher, out, "--methods", "plain,FT", "--skip-refused", "--dry-run", "--json"))
    assert code == 0
    board = json.loads(printed)
    assert list(board["refused"]) == ["FT"]
    assert (board["runs"], board["leaderboard"]) == (2, [])
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods", "plain,atuo"], "'atuo'; close: auto"),
        (["--methods", "plain", "--against", "kd"], "--against kd: expected one of the methods"),
        (["--methods", "plain", "--budget", "1e-9"], "--budget: expected at most"),
        (["--methods", "plain", "--resume"], "it takes no"),
    ],
)
def test_what_cannot_be_used_ends_with_code_2_and_writes_nothing(teacher, tutelage, tmp_path, more, message):
    code, _, told = tutelage(*job(teacher, tmp_path / "bench", *more))
    assert code == 2
    assert message in told
    assert not (tmp_path / "bench").exists()


def test_a_folder_that_holds_something_else_is_left_alone(teacher, tutelage, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, _, message = tutelage(*job(teacher, tmp_path, "--methods", "plain"))
    assert code == 2
    assert "found other files" in message


def start(arguments: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "tutelage", *arguments]
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stopped_in_a_run_it_goes_on_to_the_same_numbers(whole, teacher, tutelage, tmp_path):
    out = tmp_path / "bench"
    process = start(job(teacher, out, "--methods", "plain,auto"))
    patience = time.monotonic() + 300
    while not list(out.glob("runs/auto-seed0-*/metrics.jsonl")) and time.monotonic() < patience:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=300)
    assert process.returncode == 130
    assert f"To go on: tutelage bench --out {out} --resume" in message
    process = start(["bench", "--out", str(out), "--resume"])
    while not list(out.glob("runs/plain-seed1-*/metrics.jsonl")) and time.monotonic() < patience:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert tutelage("bench", "--out", out, "--resume")[0] == 0
    expected = {(line["method"], line["seed"]): line["scores"] for line in lines(whole)}
    found = {(line["method"], line["seed"]): line["scores"] for line in lines(out)}
    assert len(found) == len(lines(out)) == 4
    assert found == {pair: expected[pair] for pair in found}


def test_a_run_of_a_bench_is_finished_by_distill(whole, tutelage, tmp_path):
    (first,) = whole.glob("runs/auto-seed0-*")
    shutil.copytree(first, tmp_path / "run")
    assert tutelage("distill", "--out", tmp_path / "run", "--resume")[0] == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    (line,) = [line for line in lines(whole) if (line["method"], line["seed"]) == ("auto", 0)]
    assert result["student"]["test"] == pytest.approx(line["test"])
    assert (tmp_path / "run" / "student" / "model.safetensors").exists()
    page = (tmp_path / "run" / "report.html").read_text()
    for text in ("What each part brings", "Weights of the teachers by true class"):
        assert text in page
