"""One run shared by two real processes that torchrun starts: the same student, one run folder, stopped and resumed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tutelage.engine import processes
from tutelage.errors import RecipeError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo"),
]

NETS = """
from torch import nn

def net(num_classes=10, in_channels=1):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, 16), nn.Tanh(), nn.Linear(16, num_classes))
"""
"""A student without batch statistics, which two processes would take over half a batch each."""

SMALL = ["--set", "data.limit=256", "--set", "data.batch_size=32", "--set", "train.epochs=2"]
SMALL += ["--set", "train.log_every=2", "--set", "train.cache=auto"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Where commands are given: the networks lie there."""
    made = tmp_path_factory.mktemp("processes")
    (made / "nets.py").write_text(NETS)
    return made


def command(teacher: pathlib.Path, out: str, *more: str) -> list[str]:
    return ["distill", "--data", "digits", "--teacher", f"big={teacher}", "--out", out, *SMALL, *more]


def start(arguments: list[str], folder: pathlib.Path, processes: int) -> subprocess.Popen:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, *launch, "-m", "tutelage", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=environment, cwd=folder, **pipes)


def done(process: subprocess.Popen) -> tuple[str, str]:
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return out, err


def farthest(one: pathlib.Path, other: pathlib.Path, model: str) -> float:
    """The largest difference between two runs' weights of a model."""
    first, second = (load_file(run / model / "model.safetensors") for run in (one, other))
    return max(float((value - second[name]).abs().max()) for name, value in first.items())


def lines(run: pathlib.Path, kind: str) -> list[dict]:
    found = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_two_processes_train_the_student_that_one_does(teacher, folder):
    plain = ["--student", "nets:net", "--allow-import", "nets", "--json"]
    done(start(command(teacher, "one", *plain), folder, 1))
    out, err = done(start(command(teacher, "two", *plain), folder, 2))
    one, two = folder / "one", folder / "two"
    assert json.loads(out) == json.loads((two / "result.json").read_text())  # said once
    assert err.count("verdict:") == 1
    assert json.loads((two / "manifest.json").read_text())["hardware"]["processes"] == 2
    for model in ("student", "baseline"):
        assert farthest(one, two, model) < 1e-5, model
    for kind, keys in {"train": ("weights", "losses"), "by_class": ("weights",)}.items():
        expected, found = lines(one, kind), lines(two, kind)
        assert len(expected) == len(found) > 0
        for key in keys:
            for alone, shared in zip(expected, found, strict=True):
                assert alone[key].keys() == shared[key].keys()
                for row in alone[key]:
                    assert shared[key][row] == pytest.approx(alone[key][row], rel=1e-3, abs=1e-5), (kind, key, row)
    # Each took its share: twice as many would have been counted else.
    assert [x["samples"] for x in lines(one, "by_class")] == [x["samples"] for x in lines(two, "by_class")]
    assert [x["validation"] for x in lines(one, "validation")] == [x["validation"] for x in lines(two, "validation")]


def test_a_shared_run_that_is_stopped_goes_on_to_the_same_student(teacher, folder):
    norms = ["--student", "cifar/resnet8", "--set", "paths=[logits, pooled, contrast]", "--set", "train.ema=0.9"]
    norms += ["--no-baseline", "--set", "train.log_every=1", "--set", "train.epochs=4"]
    done(start(command(teacher, "whole", *norms), folder, 2))
    process, patience = start(command(teacher, "stopped", *norms), folder, 2), time.monotonic() + 300
    metrics = folder / "stopped" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 4):
        assert time.monotonic() < patience
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # torchrun hands it on to both
    _, err = process.communicate()
    assert process.returncode != 0
    assert "--nproc-per-node 2 -m tutelage distill --out stopped --resume" in err
    assert not (folder / "stopped" / "result.json").exists()
    done(start(["distill", "--out", "stopped", "--resume"], folder, 2))
    assert farthest(folder / "whole", folder / "stopped", "student") == 0
    expected, found = (lines(folder / name, "by_class") for name in ("whole", "stopped"))
    assert [x["samples"] for x in expected] == [x["samples"] for x in found]


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_written(teacher, tmp_path, tutelage, monkeypatch):
    monkeypatch.setattr(processes, "meet", lambda accelerator: None)
    monkeypatch.setattr(processes, "world", lambda: 3)
    code, _, err = tutelage(*command(teacher, str(tmp_path / "odd"), "--student", "cifar/resnet8"))
    assert code == 2
    assert "expected a batch_size that 3 processes share evenly" in err
    assert not (tmp_path / "odd").exists()


@pytest.mark.parametrize("name", ["bench", "cache", "demo"])
def test_commands_that_cannot_share_their_work_say_so(name, teacher, tmp_path, tutelage, monkeypatch):
    monkeypatch.setattr(processes, "started", lambda: 2)
    given = command(teacher, str(tmp_path / "x"), "--student", "cifar/resnet8")[1:] if name == "bench" else []
    given = {"cache": ["--store", tmp_path / "x"], "demo": ["--out", tmp_path / "x"]}.get(name, given)
    code, _, err = tutelage(name, *given)
    assert code == 2
    assert f"{name}: expected one process, found 2" in err
    assert not (tmp_path / "x").exists()


def test_processes_that_met_in_another_way_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "world", lambda: 2)
    with pytest.raises(RecipeError, match="processes that torchrun started, found 2 that met in another way"):
        processes.meet()


@pytest.mark.parametrize(("kind", "found"), [("cuda", 1), ("mps", 1)])
def test_more_processes_than_devices_are_refused(kind, found, monkeypatch):
    where = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for key, value in {**where, "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
    assert processes.started() == 2
    with pytest.raises(RecipeError, match=f"a device for each of the 2 processes on this machine, found {found}"):
        processes.meet("auto")
