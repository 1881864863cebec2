"""A teacher that knows next to nothing is named, in the run and in its report."""

import json


def test_a_bad_teacher_beside_a_good_one_is_named(teacher, tutelage, tmp_path):
    out = tmp_path / "run"
    given = ["--student", "cifar/resnet8", "--teacher", f"good={teacher}", "--teacher", "odd=cifar/resnet8"]
    short = ["--set", "data.limit=256", "--set", "data.batch_size=32", "--set", "train.epochs=2", "--no-baseline"]
    code, _, message = tutelage("distill", *given, "--data", "digits", "--out", out, *short, "--force")
    assert code == 0, message
    notes = json.loads((out / "evaluation.json").read_text())["notes"]
    assert [note for note in notes if note.startswith("teacher odd is far behind")]
    assert [note for note in notes if note.startswith("teacher odd was hardly heard")]
    assert not [note for note in notes if note.startswith("teacher good")]
    assert "odd was hardly heard" in (out / "report.html").read_text()


def test_a_bench_names_it_too(teacher, tutelage, tmp_path):
    out = tmp_path / "bench"
    given = ["--student", "cifar/resnet8", "--teacher", f"good={teacher}", "--teacher", "odd=cifar/resnet8"]
    short = ["--set", "data.limit=256", "--set", "data.batch_size=32", "--set", "train.epochs=2", "--seeds", "1"]
    code, _, message = tutelage(
        "bench", *given, "--data", "digits", "--out", out, *short, "--force", "--methods", "auto"
    )
    assert code == 0, message
    notes = json.loads((out / "bench.json").read_text())["notes"]
    assert [note for note in notes if note["text"].startswith("teacher odd was hardly heard")]
    assert {(note["method"], note["seed"]) for note in notes} == {("auto", 0)}
    assert "odd was hardly heard" in (out / "bench.html").read_text()
