"""Schemes of more than one stage, or with another student than the recipe's, through the command line."""

import json
import shutil

import pytest
import torch

from tutelage.models import load

SMALL = ["data.limit=128", "data.batch_size=32", "train.epochs=1", "data.augment=none"]


@pytest.fixture
def run(tutelage, teacher, tmp_path):
    """Distils from the trained network under some assignments; gives the exit code, the run folder and the messages."""

    def command(*assignments, baseline=False):
        words = ["distill", "--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits"]
        words += [] if baseline else ["--no-baseline"]
        words += [word for given in (*SMALL, *assignments) for word in ("--set", given)]
        code, _, said = tutelage(*words, "--out", tmp_path / "run")
        return code, tmp_path / "run", said

    return command


REUSED = (
    "paths={reused: {loss: mse, student: layer3, teacher: layer3, connector: null}}",
    "weighting={scale: {use: fixed, base: 0}}",
    "scheme=reused_classifier",
)


def test_a_student_keeps_the_connector_and_the_teachers_classifier(run, teacher):
    code, folder, said = run(*REUSED)
    assert code == 0, said
    student, taught = load(folder), load(teacher)
    assert torch.equal(student.linear.weight, taught.linear.weight)
    pictures = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        expected = student.eval()(student.preprocess(pictures))
    graph = torch.export.load(folder / "student" / "model.pt2").module()
    torch.testing.assert_close(graph(pictures), expected, rtol=1e-4, atol=1e-4)
    alone = sum(p.numel() for p in taught.parameters())
    assert json.loads((folder / "result.json").read_text())["student"]["params"] > alone


def test_such_a_student_can_be_evaluated_again(run, tutelage):
    _, folder, _ = run(*REUSED)
    code, out, said = tutelage("evaluate", folder, "--data", "digits", "--json")
    assert code == 0, said
    assert json.loads(out)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("scheme={use: reused_classifier, path: other}", "a path 'other'"),
        ("paths.reused.connector=project", "connector: null"),
        ("paths.reused.student=linear", "expected maps (C, H, W)"),
    ],
)
def test_what_cannot_be_joined_is_refused_before_anything_is_written(run, assignment, message):
    code, folder, said = run(*REUSED, assignment)
    assert code == 2
    assert message in said
    assert not folder.exists()


FACTOR = "paths={factor: {loss: {use: ft, rate: 0.5}, student: layer3, teacher: layer3}}"


def test_a_paraphraser_is_trained_before_the_student(run):
    code, folder, said = run(FACTOR, "scheme={use: paraphrased, epochs: 2}")
    assert code == 0, said
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    stages = {line["stage"]: line["epoch"] for line in lines if line["kind"] == "validation"}
    assert stages == {"paraphraser-factor-big": 2, "student": 1}
    first, *_, last = [line for line in lines if line["kind"] == "train" and line["stage"].startswith("paraphraser")]
    row = "reconstruction/big"
    assert last["losses"][row] < first["losses"][row]
    assert last["weights"]["base"] == 0


def test_an_untrained_paraphraser_is_refused_with_the_way_out(run):
    code, folder, said = run(FACTOR)
    assert code == 2
    assert "scheme: {use: paraphrased}" in " ".join(said.split())
    assert not folder.exists()


def test_a_scheme_without_its_loss_is_refused(run):
    code, _, said = run("scheme=paraphrased")
    assert code == 2
    assert "the loss ft" in " ".join(said.split())


def test_teachers_divide_their_classes_before_they_teach(run, tutelage):
    path = "paths={parts: {loss: {use: kl, temperature: 4}, student: linear.split, teacher: linear.split}}"
    code, folder, said = run(path, "scheme={use: subclasses, parts: 3, epochs: 2}", "train.epochs=5")
    assert code == 0, said
    assert "asked live" in said
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    stages = {line["stage"]: line["validation"] for line in lines if line["kind"] == "validation"}
    assert list(stages) == ["teacher-big", "student"]
    assert stages["teacher-big"] > 0.5  # it goes on from what it knows
    student = load(folder)
    assert student.linear.split.out_features == 30
    assert student.eval()(student.preprocess(torch.rand(2, 1, 8, 8))).shape == (2, 10)
    assert tutelage("evaluate", folder, "--data", "digits")[0] == 0


def test_a_class_needs_two_parts(run):
    code, _, said = run("scheme={use: subclasses, parts: 1}")
    assert code == 2
    assert "at least 2 parts" in " ".join(said.split())


@pytest.mark.parametrize("lost", ["student", "paraphraser-factor-big"])
def test_a_run_of_two_stages_goes_on_where_it_was(run, tutelage, lost):
    _, folder, _ = run(FACTOR, "scheme={use: paraphrased, epochs: 2}")
    before = json.loads((folder / "result.json").read_text())["student"]
    (folder / "result.json").unlink()
    for stage in {lost, "student"}:
        shutil.rmtree(folder / "checkpoints" / "stages" / stage)
    for file in ("last.ckpt", "best.ckpt"):
        (folder / "checkpoints" / file).unlink()
    code, _, said = tutelage("distill", "--resume", "--out", folder)
    assert code == 0, said
    assert json.loads((folder / "result.json").read_text())["student"] == before
