"""The leaderboard through the real command line: equal starts, refusals, resumption, numbers recomputed by hand."""

import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tutelage import verdict
from tutelage.bench.results import unpack
from tutelage.engine import hardware

SMALL = ["--set", "data.limit=192", "--set", "data.batch_size=32", "--set", "train.log_every=2"]
SMALL += ["--set", "train.epochs=1", "--set", "train.checkpoint_every=0.0"]
PATHS = ["--set", "paths=[logits, pooled]"]
KEYS = {"schema", "task", "metric", "higher_is_better", "finished", "runs_done", "runs", "seeds", "against"}
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
    assert (out / "bench.html").is_file()


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
