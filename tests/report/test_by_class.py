"""Whom the student listened to about which class."""

import dataclasses

import pytest

from tutelage import report
from tutelage.report.by_class import CLASSES, class_weights, mean_by_class
from tutelage.report.curves import curves


def test_weights_are_means_over_epochs_by_samples_and_sums_over_paths(folders, run):
    found = mean_by_class(report.read(folders.add_by_class(run)))
    assert list(found) == ["big", "wide"]
    assert found["big"][0] is None  # no sample of that class was seen
    assert found["big"][1:] == pytest.approx([0.75] * 5)
    assert found["wide"][1:] == pytest.approx([0, 0, 0, 0, 0.9])


def test_the_figure_stands_on_the_page_and_names_are_text(folders, run):
    read = report.read(folders.add_by_class(run))
    figure = class_weights(read)
    (trace,) = figure.spec["data"]
    assert trace["z"][1][-1] == pytest.approx(1.0)
    assert trace["text"][0][1] == "0.750"
    assert curves(read)[-1].name == "class-weights"
    assert any("&lt;script&gt;" in label for label in figure.spec["layout"]["xaxis"]["ticktext"])
    assert 'id="run1-class-weights"' in report.write([run]).read_text()


def test_of_many_classes_those_are_shown_on_which_teachers_differ(folders, tmp_path):
    names = [f"class {n}" for n in range(60)]
    run = folders.add_by_class(folders.write_run(tmp_path / "many", classes=names), 60)
    figure = class_weights(report.read(run))
    labels = figure.spec["layout"]["xaxis"]["ticktext"]
    assert len(labels) == CLASSES
    assert "Of 60 classes" in figure.caption


def test_one_teacher_alone_is_shown_too_since_it_may_be_turned_down(folders, run):
    read = report.read(folders.add_by_class(run))
    alone = [
        line | {"weights": {row: means for row, means in line["weights"].items() if row.endswith("/wide")}}
        for line in read.by_class
    ]
    (trace,) = class_weights(dataclasses.replace(read, by_class=tuple(alone))).spec["data"]
    assert len(trace["z"]) == 1


def test_without_such_lines_there_is_no_figure(run):
    assert class_weights(report.read(run)) is None


def test_what_a_bench_left_out_is_told_in_the_run(folders, run):
    part = {"kind": "teacher", "name": "wide", "delta": -0.02, "interval": [-0.03, -0.01], "verdict": "harms"}
    folders.write_json(run / "leave_one_out.json", {"metric": "accuracy", "method": "auto", "parts": [part]})
    page = report.write([run]).read_text()
    assert "What each part brings" in page
    assert "−2.00 points" in page
