import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import cwd


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    for b in range(2):
        expected = 0.0
        for c in range(3):
            p, q = ((x[b, c].flatten() / 2).softmax(0) for x in (t, s))
            expected += 4 * sum(p[i] * (p[i].log() - q[i].log()) for i in range(20)) / 3
        assert_close(cwd(s, t, temperature=2.0)[b], expected)


def test_a_constant_in_each_channel_does_not_matter():
    s, t = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    assert_close(cwd(s + torch.randn(2, 3, 1, 1), t + torch.randn(2, 3, 1, 1)), cwd(s, t))


def test_positions_may_be_in_any_order():
    s, t, order = torch.randn(2, 3, 6), torch.randn(2, 3, 6), torch.randperm(6)
    assert_close(cwd(s[..., order], t[..., order]), cwd(s, t))


def test_one_position_says_nothing():
    assert not cwd(torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1)).any()


@pytest.mark.parametrize("shapes", [((1, 2, 4, 4), (1, 3, 4, 4)), ((1, 2), (1, 2))])
def test_refuses_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="cwd: expected"):
        cwd(*map(torch.ones, shapes))


def test_refuses_a_temperature_that_is_not_positive():
    with pytest.raises(ValueError, match="temperature > 0"):
        cwd(torch.ones(1, 2, 4), torch.ones(1, 2, 4), temperature=0.0)
