"""The page of a bench: every number of bench.json is on it, and nothing more is claimed."""

import json
import re

import pytest

from tutelage import report
from tutelage.errors import RunError
from tutelage.report.board import (
    differences,
    effects,
    failed_table,
    leaderboard_table,
    left_out_table,
    notes_table,
    weights_table,
)


@pytest.fixture
def bench(folders, tmp_path):
    return folders.write_board(tmp_path / "bench")


def content(bench):
    return json.loads((bench / "bench.json").read_text())


def test_the_leaderboard_has_scores_differences_and_verdicts(bench):
    table = leaderboard_table(content(bench))
    assert table.head[:5] == ("method", "test accuracy", "minus plain", "95% interval", "verdict")
    assert table.rows[0][:5] == ("auto", "83.10% ± 0.40", "+3.10 points", "+2.00 to +4.20", "better")
    assert table.rows[1][4] == "not resolved"
    assert table.rows[2][2:5] == ("", "", "")  # plain against itself
    assert "twenty methods" in table.note


def test_one_seed_has_no_spread_and_the_page_says_so(folders, tmp_path):
    bench = folders.write_board(tmp_path / "one", seeds=1)
    assert leaderboard_table(content(bench)).rows[0][1] == "83.10%"
    assert "One seed shows nothing of the spread" in report.write_bench(bench).read_text()


def test_methods_that_lack_a_seed_are_said_to_stand_last(bench):
    told = content(bench)
    assert "lack a seed" not in leaderboard_table(told).note
    told["leaderboard"][2]["seeds"] = [0, 2]
    assert "lack a seed" in leaderboard_table(told).note


def test_a_comparison_over_one_seed_asks_for_more_beside_others_over_several(bench):
    told = content(bench)
    assert "Over one seed" not in leaderboard_table(told).note
    told["leaderboard"][1]["against"]["plain"]["seeds"] = [1]
    assert "Over one seed a verdict asks for more" in leaderboard_table(told).note


@pytest.mark.parametrize(
    ("done", "failed", "advice"),
    [
        (9, 0, None),
        (7, 0, "7 of 9 runs are finished; the same command goes on."),
        (7, 1, "7 of 9 runs are finished, 1 failed (below); the same command goes on."),
        (7, 2, "7 of 9 runs are finished, 2 failed (below): the same command tries them again, from the start."),
    ],
)
def test_what_to_do_depends_on_whether_the_others_failed(folders, tmp_path, done, failed, advice):
    bench = folders.write_board(tmp_path / "bench", done=done, failed=failed)
    page = report.write_bench(bench).read_text()
    assert ("runs are finished" in page) == (advice is not None)
    assert advice is None or advice in page


def test_runs_that_failed_stand_on_the_page_with_their_reason(folders, tmp_path):
    bench = folders.write_board(tmp_path / "bench", done=7, failed=2)
    assert failed_table(content(bench)).rows[0] == ("<odd>", "0", "step 10: loss <big> not finite.")
    page = report.write_bench(bench).read_text()
    assert "Runs that failed" in page
    assert "step 10: loss &lt;big&gt; not finite." in page


def test_a_second_reference_gets_columns_of_its_own(bench):
    told = content(bench)
    told["against"] = "kd"
    better = {"delta": 0.03, "interval": [0.01, 0.05], "verdict": "better", "seeds": [0, 1, 2]}
    told["leaderboard"][0]["against"]["kd"] = better
    head = leaderboard_table(told).head
    assert [name for name in head if name.startswith("minus")] == ["minus plain", "minus kd"]
    assert [trace["name"] for trace in differences(told).spec["data"]] == ["better"]


def test_intervals_are_drawn_from_end_to_end(bench):
    traces = {trace["name"]: trace for trace in differences(content(bench)).spec["data"]}
    better = traces["better"]
    assert better["x"] == pytest.approx([3.1])
    assert better["x"][0] + better["error_x"]["array"][0] == pytest.approx(4.2)
    assert better["x"][0] - better["error_x"]["arrayminus"][0] == pytest.approx(2.0)
    assert set(traces) == {"better", "not resolved"}


def test_what_a_part_brings_is_told_with_its_sign(bench):
    table = left_out_table(content(bench))
    assert table.rows[0] == ("teacher <wide>", "−2.00 points", "−3.00 to −1.00", "harms")
    assert [trace["name"] for trace in effects(content(bench)).spec["data"]] == ["harms", "not resolved"]


def test_without_parts_nothing_is_said_of_them(folders, tmp_path):
    bench = folders.write_board(tmp_path / "bench", left_out=False)
    assert left_out_table(content(bench)) is None
    assert "What each part brings" not in report.write_bench(bench).read_text()


def test_weights_are_those_of_taught_methods(bench):
    table = weights_table(content(bench))
    assert table.head == ("method", "teacher big", "teacher <wide>", "paths")
    assert [row[0] for row in table.rows] == ["auto", "kd"]
    told = content(bench)
    told["leaderboard"][2]["teachers"] = {"privileged": 1e-6}  # a teacher that the scheme brings has no column
    assert weights_table(told) == table


def test_what_several_seeds_say_stands_once(bench):
    assert notes_table(content(bench)).rows == (("auto", "0, 1, 2", "teacher <wide> was hardly heard."),)
    assert "teacher &lt;wide&gt; was hardly heard." in report.write_bench(bench).read_text()


def test_a_bench_of_before_has_no_notes_and_no_failed_runs(bench):
    told = content(bench)
    del told["notes"], told["failed"]
    assert notes_table(told) is failed_table(told) is None
    (bench / "bench.json").write_text(json.dumps(told))
    assert "Runs that failed" not in report.write_bench(bench).read_text()


def test_the_page_is_one_file_and_names_are_text(bench):
    page = report.write_bench(bench).read_text()
    assert (bench / "bench.html").exists()
    body = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)
    for text in ("auto is first", "&lt;wide&gt;", "&lt;paraphraser&gt;", "photos: 6 classes", 'id="bench-validation"'):
        assert text in body
    assert "<wide>" not in body
    assert page.count("* plotly.js v") == 1


def test_the_command_takes_a_bench_alone(bench, folders, tmp_path):
    from tutelage.cli.report import report as command

    assert command([bench], out=tmp_path / "x.html") == tmp_path / "x.html"
    with pytest.raises(RunError, match="Give it alone"):
        command([bench, folders.write_run(tmp_path / "a")])


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}'])
def test_a_damaged_board_is_refused(bench, text):
    (bench / "bench.json").write_text(text)
    with pytest.raises(RunError, match=r"bench\.json"):
        report.write_bench(bench)
