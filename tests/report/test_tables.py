import json

from tutelage import report
from tutelage.report import tables


def test_models_stand_beside_each_other_with_their_units(run):
    read = report.read(run)
    table = tables.models(read)
    big, _, baseline, student = table.rows
    assert (big[0], baseline[0], student[0]) == ("teacher big", "baseline", "student (cifar/resnet20)")
    column = dict(zip(table.head, student, strict=True))
    assert column["parameters"] == "272 k"
    assert column["MACs"] == "40.8 M"
    assert column["latency (ms)"] == "3.21"
    assert column["validation accuracy"] == "86.00%"
    assert column["test accuracy"] == f"{100 * read.result['student']['test']:.2f}%"
    assert column["agrees with student"] == "–"
    assert "torch.utils.flop_counter" in table.note


def test_without_an_evaluation_the_result_still_fills_the_table(run):
    (run / "evaluation.json").unlink()
    table = tables.models(report.read(run))
    assert table.head == ("model", "test accuracy", "validation accuracy", "parameters", "MACs")
    assert table.rows[0][:4] == ("teacher big", "–", "93.00%", "856 k")
    assert table.rows[2][3] == "272 k", "the baseline is the student's own network"


def test_the_mean_weight_of_a_path_is_the_mean_of_its_logged_weights(run):
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [line["weights"]["logits/wide"] for line in lines if "logits/wide" in line.get("weights", {})]
    table = tables.weights(report.read(run))
    assert table.head == ("path", "big", "wide", "labels")
    row = next(row for row in table.rows if row[0] == "logits (kl)")
    assert row == ("logits (kl)", "0.800 → 0.800", f"{sum(logged) / len(logged):.3f} → {logged[-1]:.3f}", "–")


def test_without_a_log_the_mean_weights_of_the_result_are_shown(run):
    (run / "metrics.jsonl").unlink()
    rows = tables.weights(report.read(run)).rows
    assert ("layer3", "0.250") in rows
    assert ("teacher wide", "0.350") in rows


def test_seeds_are_listed_from_two_on(folders, run, tmp_path):
    assert tables.seeds(report.read(run)) is None
    table = tables.seeds(report.read(folders.write_run(tmp_path / "three", seeds=3)))
    assert [row[0] for row in table.rows] == ["0", "1", "2"]
    assert table.rows[0][3].endswith(" points")


def test_what_is_a_mean_over_seeds_and_what_is_of_the_first_is_told(folders, run, tmp_path):
    assert "seeds" not in tables.models(report.read(run)).note
    assert "seeds" not in tables.comparison([report.read(run)]).note
    three = report.read(folders.write_run(tmp_path / "three", seeds=3))
    note = tables.models(three).note
    assert "Test and validation accuracy of student and baseline are means over 3 seeds" in note
    assert "all else is of the first seed's models" in note
    assert "Scores are means over seeds." in tables.comparison([report.read(run), three]).note


def test_the_pairing_shows_shapes(run):
    assert tables.pairing(report.read(run)).rows[0] == (
        "layer3",
        "layer3 (64 × 8 × 8)",
        "project",
        "layer3 (64 × 8 × 8)",
        "big",
    )


def test_with_many_classes_the_commonest_mistakes_stand_for_the_heat_map(folders, run, tmp_path):
    assert tables.mistakes(report.read(run)) is None
    many = report.read(folders.write_run(tmp_path / "many", classes=[f"class {c}" for c in range(120)]))
    table = tables.mistakes(many)
    target, said = many.samples["target"].tolist(), many.samples["student/prediction"].tolist()
    true, taken, times = table.rows[0]
    pairs = list(zip(target, said, strict=True))
    assert int(times) == pairs.count((int(true.split()[1]), int(taken.split()[1])))
    assert true != taken
    assert int(times) == max(pairs.count(pair) for pair in pairs if pair[0] != pair[1])


def test_runs_are_compared_finished_or_not(folders, run, tmp_path):
    other = folders.interrupt(folders.write_run(tmp_path / "b"))
    rows = tables.comparison([report.read(run), report.read(other)]).rows
    assert [row[0] for row in rows] == ["a", "b"]
    assert "better" in rows[0]
    assert "unfinished" in rows[1]
