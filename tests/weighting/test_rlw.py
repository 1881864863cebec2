"""RLW: weights drawn from a seed and a step."""

import importlib.util
import pathlib
import sys

import torch
from torch.testing import assert_close

from tutelage.weighting import RLW

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows
TAUGHT = rows(1, 3)


def drawn(rule, steps):
    """The weights of so many steps, ``[steps, K]``."""
    seen = []
    for _ in range(steps):
        seen.append(rule(ledger(TAUGHT, [1.0] * 4), lesson())[:, 0])
        rule.after_step()
    return torch.stack(seen)


def test_weights_are_the_softmax_of_normal_draws_and_sum_to_one():
    weights = drawn(bound(RLW(seed=3), TAUGHT), 4000)
    assert weights[:, 0].eq(1).all()
    assert_close(weights[:, 1:].sum(dim=1), torch.ones(4000))
    centred = weights[:, 1:].log() - weights[:, 1:].log().mean(dim=1, keepdim=True)
    assert_close(centred.mean(dim=0), torch.zeros(3), rtol=0, atol=0.05)
    assert_close(centred.var(dim=0), torch.full((3,), 2 / 3), rtol=0, atol=0.05)


def test_the_task_is_weighed_only_when_asked():
    weights = drawn(bound(RLW(seed=3, base=True), TAUGHT), 5)
    assert_close(weights.sum(dim=1), torch.ones(5))
    assert weights[:, 0].std() > 0


def test_the_same_seed_draws_the_same_and_another_does_not():
    one, same, other = (drawn(bound(RLW(seed=seed), TAUGHT), 3) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_without_a_seed_every_run_has_its_own():
    assert not torch.equal(drawn(bound(RLW(), TAUGHT), 1), drawn(bound(RLW(), TAUGHT), 1))


def test_a_resumed_rule_goes_on_with_the_draws():
    whole = bound(RLW(), TAUGHT)
    drawn(whole, 3)
    resumed = bound(RLW(), TAUGHT)
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(drawn(whole, 2), drawn(resumed, 2))


def test_evaluation_draws_nothing_and_training_leaves_the_global_generator_alone():
    rule, before = bound(RLW(seed=0), TAUGHT), torch.get_rng_state()
    drawn(rule, 2)
    assert_close(drawn(rule.eval(), 1)[0], torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3]))
    assert torch.equal(before, torch.get_rng_state())
