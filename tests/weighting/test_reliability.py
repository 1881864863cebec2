"""Reliability: each teacher by how well it knows the label."""

import importlib.util
import math
import pathlib
import sys

import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import RecipeError, UnknownName
from tutelage.weighting import Reliability

_spec = importlib.util.spec_from_file_location("meetings", pathlib.Path(__file__).with_name("meetings.py"))
meetings = sys.modules["meetings"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(meetings)
bound, ledger, lesson, rows = meetings.bound, meetings.ledger, meetings.lesson, meetings.rows

RIGHT = torch.eye(3) * 30


def test_weights_are_the_equation_written_with_loops():
    said, taught = {t: torch.randn(3, 3) * 3 for t in "abc"}, rows(2, 3)
    weights = bound(Reliability(), taught)(ledger(taught, [1.0] * 7), lesson(said, target=(2, 0, 1)))
    for b, label in enumerate((2, 0, 1)):
        for k, teacher in enumerate("abcabc"):
            doubt = -math.log(float(said[teacher][b].softmax(0)[label]))
            assert float(weights[k + 1, b]) == pytest.approx(1 / (1 + doubt), rel=1e-4)


def test_a_teacher_is_judged_alone_and_all_can_be_turned_down():
    taught = rows(1, 3)
    right, wrong = dict.fromkeys("abc", RIGHT), dict.fromkeys("abc", -RIGHT)
    gate = bound(Reliability(), taught)
    assert_close(gate(ledger(taught, [1.0] * 4), lesson(right))[1:], torch.ones(3, 3))
    assert (gate(ledger(taught, [1.0] * 4), lesson(wrong))[1:] < 0.04).all()
    mixed = gate(ledger(taught, [1.0] * 4), lesson({"a": RIGHT, "b": -RIGHT, "c": RIGHT}))
    assert_close(mixed[1], torch.ones(3))


def test_what_is_not_known_is_heard_in_full():
    said = {"a": -RIGHT, "b": torch.randn(3, 3, 7)}
    weights = bound(Reliability(), rows())(ledger(rows(), [1.0] * 3), lesson(said, labelled=[True, False, True]))
    assert weights[1, 1] == 1
    assert (weights[1, ::2] < 0.04).all()
    assert weights[2].eq(1).all()


def test_an_answer_that_is_not_a_number_is_hardly_heard():
    weights = bound(Reliability(), rows())(
        ledger(rows(), [1.0] * 3), lesson({"a": torch.full((3, 3), torch.nan), "b": RIGHT})
    )
    assert (weights[1] < 1e-3).all()
    assert (weights[2] > 0.99).all()


def test_paths_that_are_not_named_are_left_alone():
    taught, said = rows(2), dict.fromkeys("ab", -RIGHT)
    weights = bound(Reliability(paths=["logits", "layer1/b"]), taught)(ledger(taught, [1.0] * 5), lesson(said))
    assert weights[[0, 3]].eq(1).all()
    assert (weights[[1, 2, 4]] < 0.04).all()
    with pytest.raises(UnknownName, match=r"'logit'[^:]*\n  close: logits"):
        bound(Reliability(paths=["logit"]), taught)


def test_a_path_that_cannot_be_split_gets_the_mean_of_its_weights():
    said, book = {t: torch.randn(3, 3) for t in "ab"}, ledger(rows(2), [1.0] * 5)
    split, one = (
        bound(Reliability(), rows(2), batchwise=known)(book, lesson(said))
        for known in (frozenset(), frozenset({"layer1"}))
    )
    assert_close(one[:3], split[:3])
    assert_close(one[3:], split[3:].mean(dim=1, keepdim=True).expand(2, 3))


def test_without_any_label_it_is_refused():
    with pytest.raises(RecipeError, match="Reliability goes by the labels"):
        bound(Reliability(), rows(), labelled=False)
