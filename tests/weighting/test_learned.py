"""Learned: shares from factors that meet what the student says."""

import importlib.util
import math
import pathlib
import sys

import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import InputError, RecipeError
from tutelage.weighting import Learned

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows

SHAPES = {"student": {"": (3,), "map": (4, 2, 2), "tokens": (5, 4)}}


def shares(gate, taught, said, losses=None):
    return gate(ledger(taught, [1.0] * len(taught) if losses is None else losses), lesson(student=said))


def total(gate, taught, said, losses):
    book = ledger(taught, losses)
    return (gate(book, lesson(student=said)) * book.losses).sum(0).mean() + gate.penalty()


def test_shares_are_the_equation_written_with_loops():
    taught, said = rows(1, 3), torch.randn(3, 3)
    gate = bound(Learned(), taught, shapes=SHAPES)
    weights = shares(gate, taught, said)
    for b in range(3):
        a = [sum((gate.direction[c] * gate.factor[k, c] * said[b, c]).item() for c in range(3)) for k in range(3)]
        for k in range(3):
            assert weights[k + 1, b].item() == pytest.approx(math.exp(a[k]) / sum(map(math.exp, a)), rel=1e-3)


@pytest.mark.parametrize(("at", "shape", "positions"), [("map", (3, 4, 2, 2), (2, 3)), ("tokens", (3, 5, 4), (1,))])
def test_of_maps_and_tokens_the_largest_entry_of_each_channel_counts(at, shape, positions):
    said = torch.randn(shape)
    gate = bound(Learned(at=at), rows(), shapes=SHAPES)
    assert gate.taps() == (at,)
    assert gate.factor.shape == (2, 4)
    weights = shares(gate, rows(), {at: said})
    expected = ((said.amax(positions) * gate.direction) @ gate.factor.T).softmax(dim=1)
    assert_close(weights[1:], expected.T)


def test_teachers_of_each_path_share_it_and_have_one_factor_on_all():
    taught = (*rows(1, 3), *(meetings.Row("deep", t) for t in "bc"))
    weights = shares(bound(Learned(), taught, shapes=SHAPES), taught, torch.randn(3, 3))
    assert_close(weights[1:4].sum(0), torch.ones(3))
    assert_close(weights[4:].sum(0), torch.ones(3))
    assert_close(weights[4] / weights[5], weights[2] / weights[3])


def test_the_share_moves_to_the_teacher_with_the_smallest_loss_for_samples_of_its_kind():
    taught, kinds = rows(), torch.eye(3)
    gate = bound(Learned(init=0.1), taught, shapes=SHAPES)
    losses = torch.tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [5.0, 1.0, 1.0]])
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        total(gate, taught, kinds, losses).backward()
        optimizer.step()
    weights = shares(gate, taught, kinds)
    assert weights[1, 0] > 0.95
    assert weights[2, 1] > 0.95
    assert 0.1 < weights[1, 2] < 0.9


@pytest.mark.parametrize("through", [False, True])
def test_gradient_reaches_the_student_only_when_asked(through):
    said = torch.randn(3, 3, requires_grad=True)
    gate = bound(Learned(through_weights=through), rows(), shapes=SHAPES)
    loss = total(gate, rows(), said, [1.0, 2.0, 5.0])
    grad = torch.autograd.grad(loss, said, allow_unused=True)[0]
    assert (grad is not None and bool(grad.ne(0).any())) is through


def test_decay_pulls_the_shares_together():
    gate = bound(Learned(decay=0.5), rows(), shapes=SHAPES)
    assert_close(gate.penalty(), 0.5 * (gate.factor.square().sum() + gate.direction.square().sum()))
    assert bound(Learned(), rows(), shapes=SHAPES).penalty() == 0


@pytest.mark.parametrize("said", [math.nan, math.inf, 1e30], ids=str)
def test_a_student_that_says_nothing_sensible_leaves_shares_and_gradients_finite(said):
    gate = bound(Learned(), rows(), shapes=SHAPES)
    weights = shares(gate, rows(), torch.full((3, 3), said))
    assert_close(weights[1:].sum(0), torch.ones(3))
    weights[1].sum().backward()
    assert all(p.grad.isfinite().all() for p in gate.parameters())


def test_a_path_that_cannot_be_split_gets_the_mean_of_its_shares():
    gate = bound(Learned(), rows(2), shapes=SHAPES, batchwise=frozenset({"layer1"}))
    weights = shares(gate, rows(2), torch.randn(3, 3))
    assert_close(weights[3:], weights[1:3].mean(dim=1, keepdim=True).expand(2, 3))


def test_what_cannot_be_sized_is_refused_at_build():
    with pytest.raises(RecipeError, match=r"how wide the student is at 'map'; found no shape\. Give .* `example`"):
        bound(Learned(at="map"), rows())
    bound(Learned(), rows(), classes=tuple("xyz"))


@pytest.mark.parametrize("wrong", [{"init": 0.0}, {"init": math.inf}, {"decay": -1.0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected init above 0 and decay of 0 or more; found"):
        Learned(**wrong)
