import json
import math

import pytest
import torch

from tutelage import report
from tutelage.report.curves import curves, path_losses, path_weights, task_loss, teacher_weights, validation
from tutelage.report.evaluated import bins, classes, confusion, evaluated, reliability
from tutelage.report.figures import POINTS, figure, line, thin


def _trace(figure, name):
    return next(trace for trace in figure.spec["data"] if trace["name"] == name)


def test_every_figure_is_drawn_from_a_whole_run(run):
    read = report.read(run)
    assert [figure.name for figure in curves(read)] == [
        "validation", "task-loss", "path-losses", "path-weights", "teacher-weights",
    ]  # fmt: skip
    assert [figure.name for figure in evaluated(read)] == ["classes", "reliability", "confusion"]
    assert all(figure.title and figure.caption for figure in (*curves(read), *evaluated(read)))


def test_validation_is_shown_over_epochs_in_per_cent(run):
    trace = _trace(validation([report.read(run)]), "baseline")
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in lines if row["kind"] == "validation" and row["stage"] == "baseline"]
    assert trace["x"] == [row["epoch"] for row in logged]
    assert trace["y"] == pytest.approx([100 * row["validation"] for row in logged])


def test_further_seeds_are_faint_and_share_the_legend(folders, tmp_path):
    traces = task_loss(report.read(folders.write_run(tmp_path / "three", seeds=3))).spec["data"]
    assert len(traces) == 6
    assert sum(trace.get("showlegend", True) for trace in traces) == 2


def test_several_runs_are_laid_over_each_other(folders, run, tmp_path):
    other = folders.write_run(tmp_path / "b", baseline=False)
    names = [trace["name"] for trace in validation([report.read(run), report.read(other)]).spec["data"]]
    assert sorted(names) == ["a: baseline", "a: student", "b: student"]


def test_a_paths_weight_is_the_sum_over_its_teachers(run):
    read = report.read(run)
    logits = _trace(path_weights(read), "logits")
    wide = _trace(teacher_weights(read), "wide")
    for at, entry in enumerate(read.lessons):
        weights = entry["weights"]
        assert logits["y"][at] == pytest.approx(weights["logits/big"] + weights["logits/wide"])
        assert wide["y"][at] == pytest.approx(weights["logits/wide"] + weights["layer3/wide"])


def test_raw_losses_far_apart_get_a_logarithmic_axis(run):
    drawn = path_losses(report.read(run))
    assert drawn.spec["layout"]["yaxis"]["type"] == "log"
    assert len(drawn.spec["data"]) == 5


def test_one_teacher_needs_no_figure_of_teachers(run):
    text = (run / "metrics.jsonl").read_text().replace("/wide", "2/big")
    (run / "metrics.jsonl").write_text(text)
    assert teacher_weights(report.read(run)) is None


def test_losses_that_are_not_finite_leave_a_gap(run):
    text = (run / "metrics.jsonl").read_text().splitlines()
    first = json.loads(text[0]) | {"task_loss": math.nan}
    (run / "metrics.jsonl").write_text("\n".join([json.dumps(first), *text[1:]]) + "\n")
    drawn = task_loss(report.read(run))
    assert drawn.spec["data"][0]["y"][0] is None
    assert "NaN" not in json.dumps(drawn.spec)


def test_a_long_curve_is_thinned_to_means():
    steps = list(range(1, 2 * POINTS + 2))
    x, y = thin(steps, [float(step) for step in steps])
    assert len(x) == len(y) == 267 <= POINTS
    assert (x[0], y[0]) == (3, 2.0)
    assert (x[-1], y[-1]) == (801, 800.0)


def test_names_reach_plotly_as_text():
    drawn = figure("n", "t", "c", line("<b>big</b>", [1, 2], [0.1, 0.2], "#000"))
    assert drawn.spec["data"][0]["name"] == "&lt;b&gt;big&lt;/b&gt;"


def test_bars_show_student_baseline_and_the_best_teacher(folders, run, tmp_path):
    read = report.read(run)
    drawn = classes(read)
    assert [trace["name"] for trace in drawn.spec["data"]] == ["student", "baseline", "teacher big"]
    per_class = read.models["baseline"]["per_class"]
    assert _trace(drawn, "baseline")["x"] == pytest.approx([100 * value for value in per_class])
    alone = report.read(folders.write_run(tmp_path / "alone", baseline=False))
    assert [trace["name"] for trace in classes(alone).spec["data"]] == ["student", "teacher big"]


def test_of_many_classes_those_that_changed_most_are_shown(folders, tmp_path):
    read = report.read(folders.write_run(tmp_path / "many", classes=[f"class {c}" for c in range(30)]))
    drawn = classes(read)
    shown = drawn.spec["layout"]["yaxis"]["ticktext"]
    student, baseline = (read.models[name]["per_class"] for name in ("student", "baseline"))
    apart = [abs(s - b) for s, b in zip(student, baseline, strict=True)]
    assert len(shown) == 20
    assert shown[0] == f"class {max(range(30), key=lambda c: apart[c])}"
    assert "Of 30 classes, the 20 where student and baseline differ most" in drawn.caption


def test_rows_of_the_confusion_are_shares_of_the_true_class(run):
    read = report.read(run)
    (trace,) = confusion(read).spec["data"]
    table = torch.tensor(read.models["student"]["confusion"]).double()
    expected = (table / table.sum(1, keepdim=True)).sqrt()
    assert torch.allclose(torch.tensor(trace["z"], dtype=torch.double), expected)
    assert trace["customdata"][0][0].startswith("true aeroplane, taken for aeroplane:")


def test_bins_hold_every_sample_once_and_match_a_loop():
    draw = torch.Generator().manual_seed(1)
    sure = torch.cat([torch.rand(200, generator=draw), torch.tensor([0.0, 1.0])])
    target, said = (torch.randint(0, 3, (202,), generator=draw) for _ in range(2))
    found = bins({"target": target, "m/prediction": said, "m/confidence": sure}, "m")
    expected = []
    for n in range(15):
        mine = [i for i in range(202) if n <= sure[i] * 15 < n + 1 or (n == 14 and sure[i] == 1)]
        if mine:
            right = sum(int(target[i] == said[i]) for i in mine) / len(mine)
            expected.append((sum(float(sure[i]) for i in mine) / len(mine), right, len(mine)))
    assert sum(size for *_, size in found) == 202
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other)


def test_bins_of_few_samples_are_not_drawn(run):
    read = report.read(run)
    (trace,) = (one for one in reliability(read).spec["data"] if one["name"].startswith("student"))
    sizes = [size for *_, size in bins(read.samples, "student")]
    assert min(sizes) < 10
    assert trace["customdata"] == [size for size in sizes if size >= 10]


def test_without_single_predictions_there_is_no_reliability_diagram(run):
    (run / "evaluation.safetensors").unlink()
    assert reliability(report.read(run)) is None


def test_without_teachers_there_are_no_paths_to_draw(run):
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    alone = [row | {"stage": "student"} for row in lines if row["stage"] == "baseline"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in alone))
    assert [drawn.name for drawn in curves(report.read(run))] == ["validation", "task-loss"]
