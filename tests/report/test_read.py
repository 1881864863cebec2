import json

import pytest

from tutelage import report
from tutelage.errors import RunError


def test_reads_what_the_run_wrote(run):
    read = report.read(run)
    assert read.name == "a"
    assert read.missing == ()
    assert read.result["verdict"] == "better"
    assert list(read.models) == ["teacher:big", "teacher:wide", "baseline", "student"]
    assert read.rows == ["base", "logits/big", "logits/wide", "layer3/big", "layer3/wide"]
    assert len(read.lessons) == 40
    assert len(read.validation) == 16


def test_a_folder_without_a_runs_files_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(RunError, match=r"none of its files.*recipe.yaml, manifest.json, metrics.jsonl"):
        report.read(tmp_path)
    with pytest.raises(RunError, match="no folder"):
        report.read(tmp_path / "absent")


@pytest.mark.parametrize("torn", ['{"kind": "tr', '{"kind": "train"', "12", "\xff"])
def test_a_torn_last_line_is_dropped_without_a_word(run, torn):
    whole = report.read(run)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(torn.encode("latin-1"))
    assert report.read(run).train == whole.train
    assert report.read(run).missing == ()


def test_a_last_line_without_its_newline_counts_when_it_is_whole(run):
    before = len(report.read(run).train)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "stage": "student", "step": 410}')
    assert len(report.read(run).train) == before + 1


def test_a_damaged_line_in_the_middle_is_left_out_and_named(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[2] = lines[2][:20]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert report.read(run).missing == ("1 unreadable line(s) of metrics.jsonl left out: 3.",)


def test_an_interrupted_run_says_what_is_not_there(folders, run):
    missing = " ".join(report.read(folders.interrupt(run)).missing)
    for name in ("result.json", "evaluation.json", "evaluation.safetensors"):
        assert f"({name} is not there.)" in missing
    assert "manifest.json" not in missing


def test_a_run_without_a_baseline_says_what_that_costs(folders, tmp_path):
    (note,) = report.read(folders.write_run(tmp_path / "alone", baseline=False)).missing
    assert "No baseline was trained" in note


@pytest.mark.parametrize("name", ["result.json", "manifest.json", "evaluation.json", "evaluation.safetensors"])
def test_a_damaged_file_is_named(run, name):
    (run / name).write_bytes(b'{"half')
    with pytest.raises(RunError, match=name):
        report.read(run)


def test_another_schema_is_refused(folders, run):
    folders.change_json(run / "result.json", schema=2)
    with pytest.raises(RunError, match=r"expected schema 1.*found 2"):
        report.read(run)


def test_the_best_teacher_follows_the_direction_of_the_metric(folders, run):
    assert report.read(run).best_teacher == "teacher:big"
    folders.change_json(run / "result.json", higher_is_better=False)
    assert report.read(run).best_teacher == "teacher:wide"


def test_the_result_decides_over_the_evaluation(folders, run):
    result = json.loads((run / "result.json").read_text())
    folders.change_json(run / "result.json", student=result["student"] | {"test": 0.5})
    assert report.read(run).test("student") == 0.5


def test_lessons_are_those_of_the_last_taught_stage_where_none_is_called_student(run):
    text = (run / "metrics.jsonl").read_text().replace('"stage": "student"', '"stage": "pupil"')
    (run / "metrics.jsonl").write_text(text)
    assert {line["stage"] for line in report.read(run).lessons} == {"pupil"}
