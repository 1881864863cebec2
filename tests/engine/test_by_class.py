"""Weights by true class: what is summed is what the weighting said."""

import torch

from tutelage.engine.by_class import MOST, ByClass
from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec, Step
from tutelage.weighting import Adaptive, Auto, Product, Trust

ROWS = (Row("base"), Row("logits", "big"))


def step(weights, target, labelled=None):
    target = torch.tensor(target)
    known = torch.ones(len(target), dtype=torch.bool) if labelled is None else torch.tensor(labelled)
    batch = Batch(target, target, target, target, known)
    losses = torch.ones(2, len(target))
    return Step(losses.sum(), Ledger(ROWS, losses), torch.tensor(weights), Lesson(batch, {}, {}, {}))


def test_the_mean_of_each_class_is_over_its_own_samples():
    kept = ByClass(Trust(), 3)
    kept.add(step([[1.0, 1.0, 1.0], [0.2, 0.4, 0.9]], [0, 0, 2]))
    kept.add(step([[1.0], [0.6]], [0, 2, 2]))
    found = kept.read()
    assert found["samples"] == [3, 0, 3]
    assert found["weights"]["logits/big"] == [0.4, None, 0.7]
    assert found["weights"]["base"] == [1.0, None, 1.0]
    assert kept.read() is None


def test_samples_without_a_label_are_left_out():
    kept = ByClass(Trust(), 2)
    kept.add(step([[1.0, 1.0], [0.5, 9.0]], [1, -1], [True, False]))
    assert kept.read() == {"weights": {"base": [None, 1.0], "logits/big": [None, 0.5]}, "samples": [0, 1]}


def test_nothing_is_kept_where_samples_weigh_alike_or_there_are_too_many_classes():
    auto = Auto()
    auto.bind(ROWS, Spec(call=None, taps={}, responses=frozenset({"logits"})))
    cases = (Adaptive(), 10, False), (Product(Adaptive(), [Trust()]), 10, True), (auto, 10, True)
    for weighting, classes, expected in (*cases, (Trust(), MOST + 1, False), (Trust(), 0, False)):
        assert ByClass(weighting, classes).kept is expected
