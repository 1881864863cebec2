import math

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import correlation


def gaussian(a, b, gamma, order):
    return math.exp(-2 * gamma) * sum((2 * gamma * (a @ b)) ** p / math.factorial(p) for p in range(order + 1))


@pytest.mark.parametrize("kernel", ["gaussian", "bilinear"])
def test_matches_the_equation_written_with_loops(kernel):
    s, t = torch.randn(4, 2, 3).double(), torch.randn(4, 7).double()
    of = (lambda a, b: gaussian(a, b, 0.4, 2)) if kernel == "gaussian" else torch.dot
    s_unit, t_unit = ([row / row.norm() for row in x.flatten(1)] for x in (s, t))
    value = correlation(s, t, kernel=kernel)
    for i in range(4):
        rows = [(of(s_unit[i], s_unit[j]) - of(t_unit[i], t_unit[j])) ** 2 for j in range(4)]
        assert_close(value[i], sum(rows) / 4)


def test_the_series_tends_to_the_gaussian_kernel():
    s, t = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    s_unit, t_unit = (x / x.norm(dim=1, keepdim=True) for x in (s, t))
    exact = [(-0.7 * torch.cdist(x, x) ** 2).exp() for x in (s_unit, t_unit)]
    expected = (exact[0] - exact[1]).square().mean(dim=1)
    assert_close(correlation(s, t, gamma=0.7, order=12), expected, rtol=1e-5, atol=1e-9)


def test_as_a_norm_the_rows_share_the_frobenius_norm():
    s, t = torch.randn(4, 3).double(), torch.randn(4, 5).double()
    value = correlation(s, t, kernel="bilinear", normalise=False, form="norm")
    assert_close(value.mean(), (s @ s.T - t @ t.T).norm() / 16)
    squared = correlation(s, t, kernel="bilinear", normalise=False)
    assert_close(value / value.sum(), squared / squared.sum())


def test_a_norm_of_zero_has_a_finite_gradient():
    s = torch.randn(3, 4, requires_grad=True)
    correlation(s, s.detach(), form="norm").sum().backward()
    assert not s.grad.any()


def test_turned_features_are_the_same():
    s, t = torch.randn(5, 6).double(), torch.randn(5, 8).double()
    turn = torch.linalg.qr(torch.randn(6, 6).double()).Q
    assert_close(correlation(s @ turn, t), correlation(s, t))


@pytest.mark.parametrize("option", [{"kernel": "cubic"}, {"gamma": 0.0}, {"order": 0}, {"form": "cubed"}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="correlation: expected"):
        correlation(torch.ones(2, 3), torch.ones(2, 3), **option)


def test_refuses_batches_of_different_size():
    with pytest.raises(ValueError, match="5 and 4"):
        correlation(torch.ones(5, 2), torch.ones(4, 2))
