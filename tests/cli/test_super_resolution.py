"""Super-resolution through the command line, from a folder of pictures to files that other programs open."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.models import load

FEW = ["data.patch=24", "data.patches=3", "data.batch_size=8", "train.epochs=1"]
SMALL = [*FEW, "student.arguments={blocks: 2, width: 8}"]


def words(*assignments):
    return [word for given in assignments for word in ("--set", given)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixteen pictures of coloured waves, in three sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    draws = np.random.default_rng(0)
    for n in range(16):
        height, width = [(32, 40), (40, 32), (36, 37)][n % 3]
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(x * draws.uniform(0, 0.7) + y * draws.uniform(0, 0.7)) for _ in range(3)]
        Image.fromarray((127 + 120 * np.stack(waves, axis=2)).astype(np.uint8)).save(folder / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def wide(pictures, tmp_path_factory):
    """A run folder with a network twice as wide as the student."""
    from tutelage.cli.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "wide"
    given = words(*FEW, "student.arguments={blocks: 2, width: 16}")
    assert main(["train", "--model", "sr/edsr", "--data", str(pictures), "--out", str(out), *given]) == 0
    return out


@pytest.fixture
def distill(tutelage, pictures, wide, tmp_path):
    """Distils from it, though it has hardly learned anything."""

    def command(*assignments, more=()):
        given = ["--student", "sr/edsr", "--teacher", f"big={wide}", "--data", pictures, "--out", tmp_path / "run"]
        code, _, said = tutelage("distill", *given, *words(*SMALL, *assignments), "--force", *more)
        return code, tmp_path / "run", said

    return command


def test_from_pictures_to_a_report_and_an_onnx_file_of_any_size(distill, tutelage, pictures):
    code, folder, said = distill("paths=[l1, affinity]")
    assert code == 0, said
    assert "task: super_resolution" in said
    assert "worse" in said or "better" in said or "no difference" in said
    result = json.loads((folder / "result.json").read_text())
    assert (result["task"], result["metric"]) == ("super_resolution", "psnr")
    assert set(result["paths"]) == {"l1", "affinity"}
    page = (folder / "report.html").read_text()
    assert "bicubic · " in page
    assert " dB" in page
    code, out, said = tutelage("evaluate", folder, "--data", pictures, "--json")
    assert code == 0, said
    assert json.loads(out)["psnr"] == pytest.approx(result["student"]["test"], abs=1e-4)
    pytest.importorskip("onnxruntime")
    code, out, said = tutelage("export", folder, "--json")
    assert code == 0, said
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "export" / "model.onnx", providers=["CPUExecutionProvider"])
    picture = torch.rand(1, 3, 19, 27)
    larger = torch.from_numpy(session.run(None, {"image": picture.numpy()})[0])
    with torch.no_grad():
        torch.testing.assert_close(larger, load(folder).eval()(picture), rtol=1e-3, atol=1e-3)


def test_a_teacher_worse_than_bicubic_is_refused(tutelage, pictures, wide, tmp_path):
    given = ["--student", "sr/edsr", "--teacher", wide, "--data", pictures]
    code, _, said = tutelage("check", *given, *words(*SMALL))
    assert code == 2
    assert "better pictures than bicubic" in said


def test_two_widths_of_one_network_come_out_of_channel_split(distill):
    path = "paths={contrast: {loss: {use: csd, extractor: cifar/resnet8, layers: [layer1]}}}"
    code, folder, said = distill(path, "weighting={scale: {use: fixed, contrast: 0.1}}", "scheme=channel_split")
    assert code == 0, said
    student, whole = load(folder), load(folder / "pupils" / "teacher")
    ours, theirs = student.state_dict(), whole.state_dict()
    for name, x in ours.items():
        assert torch.equal(x, theirs[name][tuple(slice(0, side) for side in x.shape)]), name
    assert sum(p.numel() for p in whole.parameters()) > 2 * sum(p.numel() for p in student.parameters())


def test_a_student_of_another_kind_is_no_slice(distill):
    code, folder, said = distill("student.arguments={blocks: 3, width: 8}", "scheme=channel_split")
    assert code == 2
    assert "the teacher with fewer channels" in said
    assert not folder.exists()


def test_a_privileged_teacher_needs_no_teacher_of_the_users(tutelage, pictures, tmp_path):
    given = ["--student", "sr/fsrcnn", "--data", pictures, "--out", tmp_path / "run"]
    few = words(*FEW, "student.arguments={width: 8, narrow: 4, depth: 1}", "scheme=privileged")
    code, _, said = tutelage("distill", *given, *few)
    assert code == 0, said
    assert load(tmp_path / "run").scale == 2
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["stage"] for line in lines} == {"teacher-privileged", "student", "baseline"}
    # It names no teacher, and is a run of distill all the same.
    (tmp_path / "run" / "result.json").unlink()
    code, _, said = tutelage("train", "--out", tmp_path / "run", "--resume", "--allow-import", "json")
    assert code == 2
    assert f"tutelage distill --out {tmp_path / 'run'} --resume --allow-import json" in said
    code, _, said = tutelage("distill", "--out", tmp_path / "run", "--resume")
    assert code == 0, said
    assert json.loads((tmp_path / "run" / "result.json").read_text())["verdict"] is not None


def test_plain_training_leaves_the_scheme_out(tutelage, pictures, tmp_path):
    few = words(*FEW, "student.arguments={width: 8, narrow: 4, depth: 1}", "scheme=privileged")
    given = ["--model", "sr/fsrcnn", "--data", pictures, "--out", tmp_path / "run", *few]
    code, _, said = tutelage("train", *given)
    assert code == 0, said
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["stage"] for line in lines} == {"student"}


def test_without_that_scheme_a_teacher_is_asked_for(tutelage, pictures, tmp_path):
    code, _, said = tutelage("distill", "--student", "sr/fsrcnn", "--data", pictures, "--out", tmp_path / "run")
    assert code == 2
    assert "at least one teacher" in said


def test_answers_to_patches_are_not_kept(distill, tutelage, pictures, wide, tmp_path):
    given = ["--student", "sr/edsr", "--teacher", wide, "--data", pictures, "--store", tmp_path / "store", "--force"]
    code, _, said = tutelage("cache", *given, *words(*SMALL))
    assert code == 2
    assert "does not pay" in said
    code, _, said = distill(more=["--no-baseline"])
    assert code == 0, said
    assert "asked live: patches" in said
