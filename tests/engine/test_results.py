"""What metrics.jsonl says of a run: mean weights, and who was hardly heard."""

import json

import pytest

from tutelage.engine.results import mean_weights, notes_of


def line(weights, stage="student", seed=0, **more):
    return {"kind": "train", "stage": stage, "seed": seed, "weights": weights, **more}


def note(text, stage="student", seed=0):
    return {"kind": "note", "stage": stage, "seed": seed, "step": 50, "text": text}


@pytest.fixture
def metrics(tmp_path):
    """Gives the file that holds some lines."""

    def written(*lines):
        file = tmp_path / "metrics.jsonl"
        file.write_text("".join(json.dumps(each) + "\n" for each in lines))
        return file

    return written


def test_a_line_counts_with_the_steps_it_covers(metrics):
    file = metrics(line({"logits/big": 1.0}, steps=20), line({"logits/big": 0.0}, steps=5))
    assert mean_weights(file, "student") == ({"big": 0.8}, {"logits": 0.8})


def test_lines_that_do_not_say_how_many_steps_they_cover_count_alike(metrics):
    file = metrics(line({"base": 1.0, "logits/big": 1.0}), line({"base": 1.0, "logits/big": 0.0}))
    assert mean_weights(file, "student") == ({"big": 0.5}, {"base": 1.0, "logits": 0.5})


def test_mean_weights_of_several_seeds_are_means_over_seeds_whatever_their_length(metrics):
    again = line({"logits/big": 0.5}, "student-seed1", 1, steps=10)
    file = metrics(line({"logits/big": 1.0}, steps=10), again, again, line({"logits/big": 9.0}, "baseline", steps=10))
    assert mean_weights(file, "student", "student-seed1") == ({"big": 0.75}, {"logits": 0.75})
    assert mean_weights(file, "student", "student-seed1", "student-seed2")[0] == {"big": 0.75}


def test_notes_of_one_seed_do_not_name_it(metrics):
    file = metrics(line({"kl/big": 1.0, "kl/odd": 0.1}), note("logits/big shut at step 50"))
    hardly = "teacher odd was hardly heard: in the median of its paths it had 9% of the weight, an equal share is 50%."
    assert notes_of(file, "student") == [hardly, "logits/big shut at step 50."]


def test_what_one_of_several_seeds_says_is_told_with_its_seed(metrics):
    shut = "logits/big shut at step 50"
    lines = [note(shut, "student-seed1", 1), note("all is heard"), note("all is heard", "student-seed1", 1)]
    assert notes_of(metrics(*lines), "student", "student-seed1") == [
        "seeds 0, 1: all is heard.",
        "seed 1: logits/big shut at step 50.",
    ]


def test_who_is_hardly_heard_in_another_seed_than_the_first_is_named_once_with_the_seeds(metrics):
    file = metrics(
        line({"kl/big": 1.0, "kl/odd": 1.0}),
        line({"kl/big": 1.0, "kl/odd": 0.0}, "student-seed1", 1),
        line({"kl/big": 0.9, "kl/odd": 0.1}, "student-seed2", 2),
    )
    assert notes_of(file, "student", "student-seed1", "student-seed2") == [
        "seeds 1, 2: teacher odd was hardly heard: in the median of its paths it had 5% of the weight, "
        "an equal share is 50%."
    ]
