import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import subclass_spread
from tutelage.schemes.subclasses import Divided, divide


def test_matches_the_equation_written_with_loops():
    logits = torch.randn(4, 6).double()
    centred = [x - x.mean() for x in logits]
    v = [x / x.norm() for x in centred]
    for i in range(4):
        expected = torch.log(sum(torch.exp(v[i] @ v[j] / 0.3) for j in range(4)) / 4) - 1 / 0.3
        assert_close(subclass_spread(logits, logits, temperature=0.3)[i], expected)


def test_it_is_lower_the_more_directions_there_are():
    directions = torch.eye(6)
    one, two, six = (subclass_spread(directions[[k % n for k in range(6)]], directions).mean() for n in (1, 2, 6))
    assert one > two > six


def test_a_divided_classifier_starts_with_the_classes_it_had():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    x = torch.randn(50, 4)
    before = model(x).softmax(1)
    divided, tap = divide(model, 5)
    assert tap == "2.split"
    assert isinstance(divided[2], Divided)
    assert_close(divided(x).softmax(1), before, rtol=0.0, atol=0.05)
    assert divided[2].split(x @ divided[0].weight.T).shape == (50, 15)


def test_refuses_another_batch_and_no_heat():
    with pytest.raises(ValueError, match="one batch"):
        subclass_spread(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="temperature > 0"):
        subclass_spread(torch.ones(2, 3), torch.ones(2, 3), temperature=0.0)
