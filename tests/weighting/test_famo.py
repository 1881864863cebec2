"""FAMO: rows that fell faster get less."""

import importlib.util
import math
import pathlib
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.errors import InputError
from tutelage.losses import kl, mse
from tutelage.tasks import Classification
from tutelage.weighting import FAMO

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows


def step(rule, taught, before, after):
    """One step from these batch means to those; returns the weights it was taken with."""
    weights = rule(ledger(taught, before), lesson())
    rule.after_step(lambda batch: ledger(taught, after))
    return weights[:, 0]


@pytest.mark.parametrize("base", [False, True])
def test_weights_and_preferences_are_the_equations_written_with_loops(base):
    taught = rows(1, 3)
    rule = bound(FAMO(rate=0.1, decay=0.01, base=base), taught)
    weighed = range(0 if base else 1, 4)
    w = dict.fromkeys(weighed, 0.0)
    m, v = dict(w), dict(w)
    for t in range(1, 5):
        before, after = torch.rand(4).add(0.3).tolist(), torch.rand(4).add(0.2).tolist()
        weights = step(rule, taught, before, after)
        z = {k: math.exp(w[k]) / sum(math.exp(w[j]) for j in weighed) for k in weighed}
        c = sum(z[k] / before[k] for k in weighed)
        expected = [z[k] / before[k] / c if k in z else 1.0 for k in range(4)]
        assert_close(weights, torch.tensor(expected))
        fell = {k: math.log(before[k]) - math.log(after[k]) for k in weighed}
        for k in weighed:
            slope = z[k] * (fell[k] - sum(z[j] * fell[j] for j in weighed)) + 0.01 * w[k]
            m[k], v[k] = 0.9 * m[k] + 0.1 * slope, 0.999 * v[k] + 0.001 * slope**2
            w[k] -= 0.1 * (m[k] / (1 - 0.9**t)) / (math.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
        assert_close(rule.preference, torch.tensor([w[k] for k in weighed]), rtol=1e-3, atol=1e-5)


def test_units_of_the_losses_play_no_part():
    taught, units = rows(1, 3), torch.tensor([1.0, 1e-3, 7.0, 1e4])
    plain, scaled = bound(FAMO(rate=0.1), taught), bound(FAMO(rate=0.1), taught)
    for _ in range(3):
        before, after = torch.rand(4) + 0.2, torch.rand(4) + 0.2
        here, there = step(plain, taught, before, after), step(scaled, taught, before * units, after * units)
        pull = here[1:], there[1:] * units[1:]
        assert_close(pull[0] / pull[0].sum(), pull[1] / pull[1].sum(), rtol=1e-3, atol=1e-5)


def test_the_row_that_falls_fastest_gets_less_and_one_that_rises_gets_more():
    taught = rows(1, 3)
    rule = bound(FAMO(), taught)
    for _ in range(20):
        step(rule, taught, [1.0] * 4, [1.0, 0.9, 0.95, 1.1])
    assert rule.preference[0] < 0 < rule.preference[2]


@pytest.mark.parametrize("lost", [0.0, -1.0, math.nan, math.inf], ids=str)
def test_a_row_without_a_positive_mean_has_no_weight_and_its_preference_stays(lost):
    taught = rows(1, 3)
    rule = bound(FAMO(), taught)
    weights = step(rule, taught, [1, 2, lost, 4], [1, 1, 2, 4])
    assert_close(weights, torch.tensor([1.0, 2 / 3, 0.0, 1 / 3]))
    assert rule.preference[1] == 0
    assert rule.preference[0] < 0 < rule.preference[2]
    other = bound(FAMO(), taught)
    step(other, taught, [1, 2, 3, 4], [1, 1, lost, 4])
    assert_close(other.preference, rule.preference)


def test_nothing_is_learned_in_evaluation_from_a_probe_or_twice_from_one_step():
    taught = rows()
    rule = bound(FAMO(), taught)
    step(rule.eval(), taught, [1, 2, 3], [1, 1, 3])
    with torch.no_grad():
        step(rule.train(), taught, [1, 2, 3], [1, 1, 3])
    assert rule.preference.eq(0).all()
    step(rule, taught, [1, 2, 3], [1, 1, 3])
    kept = rule.preference.clone()
    rule.after_step(lambda batch: ledger(taught, [1, 9, 1]))
    assert torch.equal(rule.preference, kept)


def test_a_resumed_rule_goes_on_as_if_nothing_had_happened():
    taught = rows()
    whole, resumed = bound(FAMO(), taught), bound(FAMO(), taught)
    step(whole, taught, [1, 2, 3], [1, 1, 3])
    resumed.load_state_dict(whole.state_dict())
    for rule in (whole, resumed):
        step(rule, taught, [1, 2, 3], [1, 2, 1])
    assert torch.equal(whole.preference, resumed.preference)


@pytest.mark.parametrize("wrong", [{"rate": -0.1}, {"rate": math.inf}, {"decay": -1.0}])
def test_rates_that_are_no_rates_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected rate and decay of 0 or more; found"):
        FAMO(**wrong)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def distilled(rule):
    paths = {"logits": Path(kl), "deep": Path(mse, student="3", teacher="3")}
    return Distiller(net(), teachers={"a": Frozen(net())}, paths=paths, task=Classification(3), weighting=rule)


def test_a_student_learns_what_the_step_did_to_its_losses_and_its_batch_norms_move_once():
    distiller = distilled(FAMO(rate=0.1))
    batch = distiller.task.unpack((torch.rand(6, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])))
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    before = distiller(batch)
    before.loss.backward()
    optimizer.step()
    moved = {name: x.clone() for name, x in distiller.named_buffers() if "running" in name or "tracked" in name}
    distiller.after_step(batch)
    assert moved
    assert all(torch.equal(x, dict(distiller.named_buffers())[name]) for name, x in moved.items())
    now = distiller(batch).ledger.losses.mean(dim=1)
    fell = (before.ledger.losses.mean(dim=1) / now).log()[1:]
    faster = int(fell.argmax())
    assert distiller.weighting.preference[faster] < 0 < distiller.weighting.preference[1 - faster]


def test_losses_are_taken_again_in_the_precision_of_the_step():
    rule, taught, seen = bound(FAMO(), rows()), rows(), []
    with torch.autocast("cpu", torch.bfloat16):
        rule(ledger(taught, [1, 2, 3]), lesson())
    rule.after_step(lambda batch: (seen.append(torch.is_autocast_enabled("cpu")), ledger(taught, [1, 2, 3]))[1])
    assert seen == [True]
