import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import factor


def unit(x):
    return x.flatten() / sum(v**2 for v in x.flatten()) ** 0.5


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3)
    for b in range(3):
        off = unit(s[b]) - unit(t[b])
        assert_close(factor(s, t)[b], sum(abs(v) for v in off) / 18)
        assert_close(factor(s, t, distance="squared")[b], sum(v**2 for v in off) / 18)
        assert_close(factor(s, t, distance="l2")[b], sum(v**2 for v in off) ** 0.5)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_matches_the_form_over_channels_written_with_loops(power):
    s, t = torch.randn(3, 2, 3, 3), torch.randn(3, 4, 3, 3)
    for b in range(3):
        q, r = (unit(sum(x[b, c] ** power for c in range(x.shape[1])) / x.shape[1]) for x in (s, t))
        assert_close(factor(s, t, form="channels", power=power)[b], (q - r).abs().sum() / 9)


@pytest.mark.parametrize("form", ["whole", "channels"])
def test_scale_does_not_matter(form):
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert_close(factor(9 * s, 0.1 * t, form=form), factor(s, t, form=form))
    assert_close(factor(9 * t, t, form=form), torch.zeros(2), atol=1e-6, rtol=0)


def test_the_length_of_no_difference_has_a_gradient_of_zero():
    t = torch.randn(2, 3, 4, 4)
    s = t.clone().requires_grad_()
    factor(s, t, distance="l2").sum().backward()
    assert_close(s.grad, torch.zeros_like(t))


def test_refuses_other_widths_and_unknown_options():
    with pytest.raises(ValueError, match=r"equal channels.*\(1, 2, 4, 4\).*\(1, 3, 4, 4\)"):
        factor(torch.ones(1, 2, 4, 4), torch.ones(1, 3, 4, 4))
    for wrong in ({"form": "parts"}, {"distance": "l3"}, {"form": "channels", "power": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            factor(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4), **wrong)
