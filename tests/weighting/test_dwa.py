"""DWA: rows that lag behind get more."""

import importlib.util
import math
import pathlib
import sys

import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import InputError
from tutelage.weighting import DWA

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows
NAN = math.nan


def epoch(rule, taught, *batches):
    """One epoch of these batches; returns the weights that held in it."""
    for batch in batches:
        weights = rule(ledger(taught, batch), lesson())
    rule.end_epoch()
    return weights[:, 0]


@pytest.mark.parametrize("base", [False, True])
def test_weights_are_the_equation_written_with_loops(base):
    taught, history = rows(1, 3), torch.rand(5, 4).add(0.2).tolist()
    rule = bound(DWA(temperature=1.5, base=base), taught)
    weighed = range(0 if base else 1, 4)
    for e in range(5):
        weights = epoch(rule, taught, history[e])
        ratios = {k: history[e - 1][k] / history[e - 2][k] if e > 1 else 1.0 for k in weighed}
        total = sum(math.exp(ratio / 1.5) for ratio in ratios.values())
        expected = [len(ratios) * math.exp(ratios[k] / 1.5) / total if k in ratios else 1.0 for k in range(4)]
        assert_close(weights, torch.tensor(expected))


def test_the_mean_of_an_epoch_runs_over_its_batches():
    taught = rows()
    one, several = bound(DWA(), taught), bound(DWA(), taught)
    for scale in (1.0, 0.5):
        epoch(one, taught, [1, 2 * scale, 3])
        epoch(several, taught, [1, 1 * scale, 3], [1, 3 * scale, 2], [1, 2 * scale, 4])
    assert_close(epoch(one, taught, [1, 1, 1]), epoch(several, taught, [1, 1, 1]))


def test_nothing_is_measured_in_evaluation_or_from_a_probe():
    rule = bound(DWA(), rows())
    rule.eval()(ledger(rows(), [1, 2, 3]), lesson())
    with torch.no_grad():
        rule.train()(ledger(rows(), [1, 2, 3]), lesson())
    assert rule.count.eq(0).all()


def test_a_row_that_is_silent_or_negative_counts_as_one_that_stands_still():
    taught = rows(1, 4)
    rule = bound(DWA(), taught)
    epoch(rule, taught, [1, 1, NAN, -1, 0], [1, 1, 2, -1, 0])
    epoch(rule, taught, [1, 1, 2, -2, 0])
    assert_close(epoch(rule, taught, [1] * 5), torch.ones(5))


def test_a_row_that_falls_silent_stands_still_from_then_on():
    taught = rows(1, 4)
    rule = bound(DWA(), taught)
    epoch(rule, taught, [1, 4, 1, 1, 1])
    assert epoch(rule, taught, [1, 1, 1, 1, 1])[1] == 1  # the first two epochs
    assert epoch(rule, taught, [1, NAN, 1, 1, 1])[1] < 1  # it fell, and is told so for an epoch
    assert_close(epoch(rule, taught, [1] * 5), torch.ones(5))


def test_an_epoch_cut_in_two_by_a_checkpoint_is_one_epoch():
    taught = rows()
    whole, cut = bound(DWA(), taught), bound(DWA(), taught)
    for rule in (whole, cut):
        epoch(rule, taught, [1, 2, 3])
        rule(ledger(taught, [1, 1, 3]), lesson())
    resumed = bound(DWA(), taught)
    resumed.load_state_dict(cut.state_dict())
    for rule in (whole, resumed):
        epoch(rule, taught, [1, 3, 2])
    assert torch.equal(epoch(whole, taught, [1, 1, 1]), epoch(resumed, taught, [1, 1, 1]))


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(InputError, match=r"expected temperature above 0; found 0"):
        DWA(temperature=0)
