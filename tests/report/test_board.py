"""The page of a bench: every number of bench.json is on it, and nothing more is claimed."""

import json
import re

import pytest

from tutelage import report
from tutelage.errors import RunError
from tutelage.report.board import differences, effects, leaderboard_table, left_out_table, notes_table, weights_table


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


def test_a_second_reference_gets_columns_of_its_own(bench):
    told = content(bench)
    told["against"] = "kd"
    told["leaderboard"][0]["against"]["kd"] = {"delta": 0.03, "interval": [0.01, 0.05], "verdict": "better"}
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


def test_what_several_seeds_say_stands_once(bench):
    assert notes_table(content(bench)).rows == (("auto", "0, 1, 2", "teacher <wide> was hardly heard."),)
    assert "teacher &lt;wide&gt; was hardly heard." in report.write_bench(bench).read_text()


def test_a_bench_of_before_has_no_notes(bench):
    told = content(bench)
    del told["notes"]
    assert notes_table(told) is None


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
