"""Numbers of the leaderboard, against the same computed by hand."""

import statistics

import pytest
import torch

from tutelage import verdict
from tutelage.bench import leaderboard
from tutelage.bench.leaderboard import compare, left_out
from tutelage.bench.results import pack

SAMPLES = 400
GROUPS = torch.arange(SAMPLES) % 10


def line(rate, draw, seed):
    right = (torch.rand(SAMPLES, generator=torch.Generator().manual_seed(draw)) < rate).float()
    return {
        "seed": seed,
        "test": float(right.mean()),
        "validation": rate,
        "seconds": 2.0,
        "scores": pack(right),
        "weights": {"teachers": {"big": 1.0 + draw}, "paths": {"logits": 4.0}},
    }


RATES = {"plain": 0.5, "kd": 0.51, "auto": 0.95, "auto without path logits": 0.4}
PAIRS = [(name, seed) for name in RATES for seed in range(3)]
FOUND = {(name, seed): line(RATES[name], draw, seed) for draw, (name, seed) in enumerate(PAIRS)}


def test_the_best_come_first_with_mean_and_spread_over_seeds():
    rows = leaderboard(FOUND, ["plain", "kd", "auto"], against=["plain"], groups=GROUPS)
    assert rows[0]["method"] == "auto"
    tests = [FOUND["auto", seed]["test"] for seed in range(3)]
    assert rows[0]["test"] == pytest.approx(statistics.mean(tests))
    assert rows[0]["spread"] == pytest.approx(statistics.stdev(tests))
    assert rows[0]["teachers"] == {"big": pytest.approx(8.0)}
    worst = leaderboard(FOUND, ["plain", "auto"], against=["plain"], higher_is_better=False)
    assert [row["method"] for row in worst] == ["plain", "auto"]


def test_a_difference_is_the_verdicts_over_the_seeds_that_both_have():
    some = {pair: told for pair, told in FOUND.items() if pair != ("auto", 2)}
    told = compare(some, "auto", "plain", groups=GROUPS)
    assert told["seeds"] == [0, 1]
    ours, theirs = (
        torch.stack([torch.as_tensor(unpacked(FOUND[name, seed])) for seed in (0, 1)]) for name in ("auto", "plain")
    )
    judged = verdict.judge(ours, theirs, groups=GROUPS)
    assert told["delta"] == pytest.approx(judged.delta)
    assert told["interval"] == pytest.approx(list(judged.interval))
    assert told["verdict"] == "better"
    assert compare(some, "plain", "auto", groups=GROUPS)["verdict"] == "worse"


def unpacked(told):
    from tutelage.bench.results import unpack

    return unpack(told["scores"])


def test_an_interval_that_spans_zero_is_not_resolved():
    told = compare(FOUND, "kd", "plain", groups=GROUPS)
    assert told["interval"][0] < 0 < told["interval"][1]
    assert told["verdict"] == "not resolved"


def test_methods_that_lack_a_seed_stand_after_those_that_have_it():
    some = {pair: told for pair, told in FOUND.items() if pair not in (("auto", 2), ("kd", 1), ("kd", 2))}
    rows = leaderboard(some, ["auto", "kd", "plain"], against=["plain"], groups=GROUPS)
    assert [(row["method"], row["seeds"]) for row in rows] == [("plain", [0, 1, 2]), ("auto", [0, 1]), ("kd", [0])]


def test_methods_without_a_finished_run_are_left_out():
    rows = leaderboard({("plain", 0): FOUND["plain", 0]}, ["plain", "auto"], against=["plain", "auto"])
    assert [(row["method"], row["spread"], row["against"]) for row in rows] == [("plain", None, {})]


def test_the_effect_of_a_part_is_the_whole_minus_the_rest():
    (row,) = left_out(FOUND, "auto", [("path", "logits", "auto without path logits")], groups=GROUPS)
    whole, rest = (
        statistics.mean(FOUND[name, seed]["test"] for seed in range(3)) for name in ("auto", "auto without path logits")
    )
    assert row["delta"] == pytest.approx(whole - rest)
    assert (row["kind"], row["name"], row["verdict"]) == ("path", "logits", "helps")
