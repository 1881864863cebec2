import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import nkd


def test_matches_the_equation_written_with_loops():
    s, t, y = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.tensor([5, 0, 2, 2])
    value = nkd(s, t, target=y, temperature=3.0, other_weight=2.0)
    for b in range(4):
        expected = -t[b].softmax(0)[y[b]] * s[b].softmax(0)[y[b]].log()
        rest = [c for c in range(6) if c != y[b]]
        share, said = ((x[b, rest] / 3.0).softmax(0) for x in (t, s))
        expected = expected - 2.0 * 9.0 * sum(share[i] * said[i].log() for i in range(5))
        assert_close(value[b], expected)


def test_gradient_vanishes_among_the_others_where_they_are_shared_alike():
    t, y = torch.randn(3, 5).double(), torch.tensor([0, 1, 2])
    s = t.clone().requires_grad_()
    whole, label_alone = (
        torch.autograd.grad(nkd(s, t, target=y, other_weight=weight).sum(), s)[0] for weight in (1.5, 0.0)
    )
    assert_close(whole, label_alone)


def test_samples_without_a_label_have_zero():
    s, t = torch.randn(3, 4), torch.randn(3, 4)
    some = nkd(s, t, target=torch.tensor([-1, 3, 1]))
    assert some[0] == 0
    assert_close(some.mean(), nkd(s[1:], t[1:], target=torch.tensor([3, 1])).mean())


@pytest.mark.parametrize("option", [{"temperature": -1.0}, {"other_weight": -1.0}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="nkd: expected"):
        nkd(torch.ones(1, 3), torch.ones(1, 3), target=torch.tensor([0]), **option)
