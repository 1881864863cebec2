"""Entropy: teachers that are sure get more."""

import importlib.util
import math
import pathlib
import sys

import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import RecipeError
from tutelage.weighting import Entropy, Weighting
from tutelage.weighting.entropy import entropy

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows


def test_shares_are_the_equation_written_with_loops():
    said = {t: torch.randn(3, 3) * 3 for t in "abc"}
    taught = rows(1, 3)
    weights = bound(Entropy(), taught)(ledger(taught, [1.0] * 4), lesson(said))
    published = bound(Entropy(published=True), taught)(ledger(taught, [1.0] * 4), lesson(said))
    for b in range(3):
        h = [-sum(p * math.log(p) for p in said[t][b].softmax(0).tolist()) for t in "abc"]
        for k in range(3):
            assert float(weights[k + 1, b]) == pytest.approx((1 - h[k] / sum(h)) / 2, rel=1e-4)
            assert float(published[k + 1, b]) == pytest.approx((1 - h[k] / sum(h)) / 3, rel=1e-4)


def test_an_answer_that_leaves_no_doubt_has_entropy_zero_and_is_still_a_number():
    said = {"a": torch.tensor([[1e4, -1e4, 0.0]] * 3), "b": torch.zeros(3, 3)}
    weights = bound(Entropy(), rows())(ledger(rows(), [1.0] * 3), lesson(said))
    assert_close(weights[1:], torch.tensor([[1.0], [0.0]]).expand(2, 3))


def test_teachers_without_any_doubt_share_equally():
    said = {t: torch.tensor([[1e4, -1e4, 0.0]] * 3) for t in "ab"}
    assert bound(Entropy(), rows())(ledger(rows(), [1.0] * 3), lesson(said))[1:].eq(0.5).all()


def test_an_answer_that_is_not_a_number_counts_as_knowing_nothing():
    said = {"a": torch.full((3, 3), torch.nan), "b": torch.zeros(3, 3)}
    assert_close(bound(Entropy(), rows())(ledger(rows(), [1.0] * 3), lesson(said))[1:], torch.full((2, 3), 0.5))


def test_labels_do_not_matter():
    said = {t: torch.randn(3, 3) for t in "ab"}
    known, unknown = (
        bound(Entropy(), rows())(ledger(rows(), [1.0] * 3), lesson(said, target=target, labelled=labelled))
        for target, labelled in (((0, 1, 2), None), ((-1, -1, -1), [False] * 3))
    )
    assert torch.equal(known, unknown)
    bound(Entropy(), rows(), labelled=False)


def test_positions_are_averaged_wherever_the_classes_stand():
    tokens = torch.randn(3, 5, 7)
    expected = torch.stack([entropy(tokens[:, t]) for t in range(5)]).mean(dim=0)
    assert_close(entropy(tokens, 7), expected)
    assert_close(entropy(tokens), expected)
    assert_close(entropy(tokens.movedim(2, 1), 7), expected)
    assert_close(entropy(tokens.movedim(2, 1).unflatten(2, (5, 1))), expected)


def test_answers_that_hold_no_classes_are_shared_equally():
    said = {"a": torch.randn(3, 4), "b": torch.zeros(3, 3)}
    rule = bound(Entropy(), rows(), classes=tuple("xyz"))
    assert rule(ledger(rows(), [1.0] * 3), lesson(said))[1:].eq(0.5).all()


def test_a_path_that_cannot_be_split_gets_the_mean_of_its_shares():
    said = {t: torch.randn(3, 3) for t in "ab"}
    book = ledger(rows(2), [1.0] * 5)
    split, one = (
        bound(Entropy(), rows(2), batchwise=known)(book, lesson(said)) for known in (frozenset(), frozenset({"layer1"}))
    )
    assert_close(one[:3], split[:3])
    assert_close(one[3:], split[3:].mean(dim=1, keepdim=True).expand(2, 3))


class ByLabel(Weighting):
    needs_labels = True


def test_a_rule_that_goes_by_labels_is_refused_where_there_are_none():
    bound(ByLabel(), rows())
    with pytest.raises(RecipeError, match=r"ByLabel goes by the labels; expected .* found none"):
        bound(ByLabel(), rows(), labelled=False)
