import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage.losses.alias import alias_draw, alias_tables


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=40).filter(lambda w: sum(w) > 0))
def test_the_tables_imply_the_weights(weights):
    kept, other = alias_tables(weights)
    implied = kept.clone()
    implied.index_add_(0, other, 1 - kept)
    wanted = torch.tensor(weights, dtype=torch.float64)
    assert_close(implied / len(weights), wanted / wanted.sum(), rtol=1e-6, atol=1e-9)


def test_draws_come_as_often_as_the_weights_say():
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0])
    drawn = alias_draw(*alias_tables(weights), 8000)
    assert_close(torch.bincount(drawn, minlength=4) / 8000, weights / 8, rtol=0.0, atol=0.02)


@pytest.mark.parametrize("weights", [[], [-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_refuses_what_is_no_distribution(weights):
    with pytest.raises(ValueError, match="expected weights"):
        alias_tables(weights)
