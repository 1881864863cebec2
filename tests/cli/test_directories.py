"""Runs that were begun with relative paths, gone on with from another directory."""

import json
import pathlib
import shlex
import shutil

import pytest
import torch
from PIL import Image

from tutelage.cli import runfolder

FEW = ["--set", "data.batch_size=16", "--set", "train.epochs=1"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> pathlib.Path:
    """A folder of two classes."""
    home = tmp_path_factory.mktemp("pictures") / "photos"
    for number in range(80):
        folder = home / ("dark", "bright")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = (torch.rand(8, 8) * 100 + 150 * (number % 2)).byte()
        Image.fromarray(picture.numpy()).save(folder / f"{number:03}.png")
    return home


@pytest.fixture
def begun(pictures, tutelage, tmp_path, monkeypatch) -> pathlib.Path:
    """A directory with a teacher, its weights, and a run in `my runs/a` that was stopped before its first step."""
    home, weights = tmp_path / "home", "big.safetensors"
    home.mkdir()
    shutil.copytree(pictures, home / "photos")
    monkeypatch.chdir(home)
    assert tutelage("train", "--model", "cifar/resnet8", "--data", "photos", "--out", "runs/big", *FEW)[0] == 0
    shutil.copy(home / "runs/big/student/model.safetensors", weights)

    def stop(*_, **__):
        raise KeyboardInterrupt

    given = ["--student", "cifar/resnet8", "--teacher", "runs/big", "--teacher", f"same=cifar/resnet8@{weights}"]
    with monkeypatch.context() as patched:
        patched.setattr("tutelage.cli.cache.fill", stop)
        done = tutelage("distill", *given, "--data", "photos", "--out", "my runs/a", "--force", *FEW)
    assert done[0] == 130, done[2]
    assert "tutelage distill --out 'my runs/a' --resume" in done[2]
    monkeypatch.chdir(tmp_path)
    return home


def test_a_run_is_resumed_and_exported_from_another_directory(begun, tutelage):
    run = begun / "my runs" / "a"
    code, _, message = tutelage("distill", "--out", run, "--resume")
    assert code == 0, message
    code, _, message = tutelage("export", run, "--format", "int8", "--most-lost", "1")
    assert code == 0, message


def test_a_run_that_was_moved_with_its_data_is_resumed_where_it_lies_now(begun, tutelage, tmp_path, monkeypatch):
    moved = begun.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    code, _, message = tutelage("distill", "--out", "my runs/a", "--resume")
    assert code == 0, message


def test_the_line_that_goes_on_can_be_pasted_where_a_path_has_spaces(begun):
    line = runfolder.resume_line(begun / "my runs" / "a", "distill", ["mylab"])
    assert shlex.split(line)[2:] == ["--out", str(begun / "my runs" / "a"), "--resume", "--allow-import", "mylab"]


RECIPE = """\
data: {use: photos, test_data: tests, root: sets}
student: cifar/resnet8
teachers:
  one: {model: runs/one, weights: w.pt}
  two: {model: hf/two}
train: {cache: store, offload: absent}
"""


def test_what_lies_where_the_run_began_is_named_by_its_whole_path_and_nothing_else(tmp_path, monkeypatch):
    home, run = tmp_path / "home", tmp_path / "run"
    for place in ("photos", "tests", "sets", "runs/one", "two", "store", "cifar/resnet8", "auto", "digits"):
        (home / place).mkdir(parents=True)
    (home / "w.pt").touch()
    run.mkdir()
    (run / "recipe.yaml").write_text(RECIPE)
    (run / "manifest.json").write_text(json.dumps({"directory": str(home)}))
    found = runfolder.recipe_of(run)
    assert found["data"] == {"use": f"{home}/photos", "test_data": f"{home}/tests", "root": "sets"}
    assert found["student"] == "cifar/resnet8"
    assert found["teachers"]["one"] == {"model": f"{home}/runs/one", "weights": f"{home}/w.pt"}
    assert found["teachers"]["two"] == {"model": f"hf/{home}/two"}
    assert found["train"] == {"cache": f"{home}/store", "offload": "absent"}
    (run / "recipe.yaml").write_text("{data: digits, student: cifar/resnet8, train: {cache: auto}}")
    assert runfolder.recipe_of(run) == {"data": "digits", "student": "cifar/resnet8", "train": {"cache": "auto"}}
    (run / "recipe.yaml").write_text("{data: {use: torchvision/MNIST, root: sets}, student: cifar/resnet8}")
    assert runfolder.recipe_of(run)["data"] == {"use": "torchvision/MNIST", "root": f"{home}/sets"}
    monkeypatch.chdir(home)
    (run / "recipe.yaml").write_text(RECIPE)
    assert runfolder.recipe_of(run)["data"]["use"] == "photos", "from there it is found as it is written"


def test_a_run_of_an_earlier_version_is_read_as_it_is_written(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for manifest in ("{}", "", "[]"):
        (tmp_path / "manifest.json").write_text(manifest)
        assert runfolder.recipe_of(tmp_path)["data"]["use"] == "photos"
