"""Evaluating the model of a run: on its own data, on data that changed, and with classes in another order."""

import json
import os
import pathlib
import shutil

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import tutelage as tu
from tutelage.cli.__main__ import main
from tutelage.cli.evaluate import evaluate

SAME = "the cut is that of the run"
OTHER = "may be some that the run was trained on"
NAMES = ["one", "two", "three", "four"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> pathlib.Path:
    """A directory with pictures of four digits, and a run that names them by their relative path."""
    home, before = tmp_path_factory.mktemp("home"), pathlib.Path.cwd()
    digits = tu.data.open_data("digits").train
    for number, label in enumerate(digits.labels[:400].tolist()):
        if label < len(NAMES):
            folder = home / "photos" / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            picture = digits.gather(torch.tensor([number]))[0, 0]
            Image.fromarray((picture * 255).byte().numpy() if picture.is_floating_point() else picture.numpy()).save(
                folder / f"{number:03}.png"
            )
    options = ["--set", "data.seed=3", "--set", "data.batch_size=16", "--set", "train.epochs=3"]
    os.chdir(home)
    try:
        assert main(["train", "--model", "cifar/resnet8", "--data", "photos", "--out", "run", *options]) == 0
    finally:
        os.chdir(before)
    shutil.copytree(home / "run" / "student", home / "run" / "pupils" / "other")
    return home


@pytest.fixture
def score(home, tutelage):
    """Evaluates the run, or a model in it; gives what was found, and what was said."""

    def scored(data, *arguments, run=home / "run") -> tuple[dict, str]:
        code, printed, message = tutelage("evaluate", run, "--data", data, "--json", *arguments)
        assert code == 0, message
        return json.loads(printed), message

    return scored


def reached(run: pathlib.Path) -> float:
    return json.loads((run / "result.json").read_text())["student"]["test"]


@pytest.mark.parametrize("model", ["run", "run/student", "run/pupils/other"])
def test_the_runs_own_data_are_cut_as_the_run_cut_them_from_any_directory(home, score, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(home / "photos", tmp_path / "copy")
    for data in (home / "photos", os.path.relpath(home / "photos"), copy, "copy"):
        found, message = score(data, run=home / model)
        assert SAME in message, data
        assert OTHER not in message
        assert found["accuracy"] == pytest.approx(reached(home / "run"), abs=1e-6)


def test_a_folder_that_has_grown_is_not_taken_for_the_runs_data(home, score, tmp_path, monkeypatch):
    moved = pathlib.Path(shutil.copytree(home, tmp_path / "home"))
    first = next(iter(sorted((moved / "photos" / "one").iterdir())))
    shutil.copy(first, first.with_name("000a.png"))
    for directory in (moved, home, tmp_path):
        monkeypatch.chdir(directory)
        found, message = score(moved / "photos", run=moved / "run")
        assert SAME not in message
        assert OTHER in message
        assert any(OTHER in note for note in found["notes"])


def test_another_cut_than_the_runs_is_told(home, score):
    found, message = score(home / "photos", "--seed", "0")
    assert OTHER in message
    assert SAME not in message
    again, message = score(home / "photos", "--seed", "3", "--set", "data.image_size=16")
    assert SAME in message, "the same samples in another size"
    assert OTHER not in message
    assert again["samples"] == found["samples"]


def test_training_samples_that_were_asked_for_are_no_matter_of_warning(home, score):
    found, message = score(home / "photos", "--split", "train")
    assert found["samples"] > 100
    assert OTHER not in message


def test_a_run_without_a_manifest_claims_nothing(home, score, tmp_path):
    run = pathlib.Path(shutil.copytree(home / "run", tmp_path / "run"))
    (run / "manifest.json").unlink()
    message = score(home / "photos", run=run)[1]
    assert SAME not in message
    assert OTHER in message


def test_hidden_labels_do_not_change_whose_data_they_are(home, score, tutelage, tmp_path):
    given = ["--model", "cifar/resnet8", "--data", home / "photos", "--out", tmp_path / "run"]
    options = ["--set", "data.labels=0.5", "--set", "data.batch_size=16", "--set", "train.epochs=1"]
    assert tutelage("train", *given, *options)[0] == 0
    assert SAME in score(home / "photos", run=tmp_path / "run")[1]
    whole, half = (score(home / "photos", "--split", "train", run=run)[0] for run in (home / "run", tmp_path / "run"))
    assert whole["samples"] == half["samples"], "all labels are there to score with"


def own(order: list[int], names: list[str] = NAMES) -> TensorDataset:
    """Pictures whose class is where they are bright; class n of the data is `names[order[n]]`."""
    kind = torch.arange(160) % 4
    pictures = 0.2 * torch.rand(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for number, each in enumerate(kind.tolist()):
        pictures[number, 0, 2 * each : 2 * each + 2] += 0.8
    data = TensorDataset(pictures, torch.tensor([order.index(each) for each in kind.tolist()]))
    data.classes = [names[each] for each in order]
    return data


@pytest.fixture(scope="module")
def bright(tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("runs") / "bright"
    options = {"train": {"epochs": 8}, "assignments": ["data.batch_size=16"]}
    assert tu.train(model="cifar/resnet8", data=own([0, 1, 2, 3]), out=out, **options).result["student"]["test"] > 0.9
    return out


def test_data_given_from_python_are_known_again(bright, capsys):
    assert evaluate(bright, data=own([0, 1, 2, 3]))["accuracy"] == pytest.approx(reached(bright), abs=1e-6)
    assert SAME in capsys.readouterr().err


def test_classes_in_another_order_are_matched_by_name(bright, capsys):
    found = evaluate(bright, data=own([2, 0, 3, 1]))
    assert found["accuracy"] > 0.9
    assert any("matched by name" in note for note in found["notes"])
    assert "matched by name" in capsys.readouterr().err


def test_columns_that_are_in_an_order_already_are_put_in_another(bright, tmp_path):
    run = tmp_path / "run"
    options = {"train": {"epochs": 8}, "assignments": ["data.batch_size=16", "student.classes=[3, 2, 1, 0]"]}
    tu.train(model="cifar/resnet8", data=own([0, 1, 2, 3]), out=run, **options)
    assert evaluate(run, data=own([2, 0, 3, 1]))["accuracy"] > 0.9


def test_classes_of_other_names_are_told(bright, capsys):
    found = evaluate(bright, data=own([0, 1, 2, 3], ["zero", *NAMES[1:]]))
    told = [note for note in found["notes"] if "other names" in note]
    assert len(told) == 1
    assert "'zero'" in told[0]
    assert "'one'" in told[0]
    assert told[0] in capsys.readouterr().err
