import pytest

from tutelage import report
from tutelage.report.summary import summarise


def _changed(folders, run, **changes):
    folders.change_json(run / "result.json", **changes)
    return summarise(report.read(run))


def test_better_is_said_with_difference_interval_and_what_to_take(folders, run):
    summary = _changed(folders, run, delta=0.0123, interval=[0.004, 0.0206], gap_closed=0.58)
    assert summary.verdict == "better"
    assert "is better than" in summary.sentence
    assert summary.sentence.endswith("its test accuracy is 1.23 percentage points higher.")
    facts = {name: value for name, value, _ in summary.facts}
    assert facts == {
        "Difference": "+1.23 points",
        "95% interval": "+0.40 to +2.06",
        "Gap closed": "58%",
        "Take": "student/",
    }


def test_worse_is_said_as_plainly(folders, run):
    summary = _changed(folders, run, verdict="worse", delta=-0.02, interval=[-0.03, -0.01], shipped="baseline")
    assert "is worse than" in summary.sentence
    assert "2.00 percentage points lower" in summary.sentence
    assert ("Take", "baseline/", "the baseline is better on validation") in summary.facts
    assert ("95% interval", "−3.00 to −1.00", "of the difference, percentage points") in summary.facts


def test_no_difference_claims_nothing(folders, run):
    summary = _changed(folders, run, verdict="no difference", delta=0.001)
    assert summary.sentence.startswith("No difference could be shown")


def test_a_difference_of_nothing_is_neither_higher_nor_lower(folders, run):
    summary = _changed(folders, run, verdict="no difference", delta=0.0)
    assert summary.sentence.endswith("its test accuracy is the same.")


def test_decibels_are_not_percentages(folders, run):
    summary = _changed(folders, run, metric="psnr", delta=0.31, interval=[0.1, 0.5])
    assert "its test PSNR is 0.31 dB higher" in summary.sentence
    assert ("95% interval", "+0.10 to +0.50", "of the difference, dB") in summary.facts


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "one seed"), (3, "t-interval"), (5, "bootstrap over seeds and samples")]
)
def test_the_page_says_what_the_interval_covers(folders, run, seeds, words):
    assert words in _changed(folders, run, seeds=seeds).notes[0]


def test_the_words_of_the_verdict_itself_come_first(folders, run):
    folders.change_json(run / "evaluation.json", verdict_method="It covers samples and nothing else.")
    assert summarise(report.read(run)).notes[0] == "It covers samples and nothing else."


def test_without_a_baseline_there_is_no_verdict_and_the_reason_is_given(folders, tmp_path):
    summary = summarise(report.read(folders.write_run(tmp_path / "alone", baseline=False)))
    assert summary.verdict == "none"
    assert "there is no verdict, because no baseline was trained" in summary.sentence
    assert [name for name, *_ in summary.facts] == ["Take"]


def test_without_labels_the_reason_is_another(folders, run):
    summary = _changed(folders, run, verdict=None, delta=None, interval=None, gap_closed=None)
    assert "nothing to judge it by" in summary.sentence


def test_an_interrupted_run_tells_how_far_it_came(folders, run):
    summary = summarise(report.read(folders.interrupt(run)))
    assert summary.verdict == "unfinished"
    assert "step 400" in summary.sentence
    assert "Best validation accuracy of the student so far: 82.47%" in summary.sentence


def test_a_run_that_logged_nothing_yet_is_no_error(folders, run):
    folders.interrupt(run)
    (run / "metrics.jsonl").unlink()
    assert "logged nothing yet" in summarise(report.read(run)).sentence


def test_what_the_run_warned_of_is_on_the_first_screen(run):
    assert "Teacher big was scored on data it may have been trained on." in summarise(report.read(run)).notes


def test_plain_training_is_not_called_distillation(folders, tmp_path):
    run = folders.write_run(tmp_path / "plain", baseline=False)
    summary = _changed(folders, run, teachers={}, paths={})
    assert summary.sentence.startswith("The model reaches a test accuracy of")
    assert summary.sentence.endswith("it was trained without teachers.")
    assert not [note for note in summary.notes if "baseline" in note]
