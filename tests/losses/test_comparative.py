import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import comparative, kl


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(4, 5), torch.randn(4, 5)
    value = comparative(s, t, temperature=2.0)
    for i in range(4):
        pairs = [kl((s[i] - s[j])[None], (t[i] - t[j])[None], temperature=2.0) for j in range(4) if j != i]
        assert_close(value[i], sum(pairs)[0] / 3)


@pytest.mark.parametrize("scale", [0.1, 20.0, 200.0])
def test_all_differences_at_once_are_what_they_are_one_by_one(scale):
    s, t = (scale * torch.randn(6, 7).double() for _ in range(2))
    s.requires_grad_()
    whole = comparative(s, t)
    log_prob, target = (((x[:, None] - x) / 4).log_softmax(dim=2) for x in (s, t))
    expected = 16 * (target.exp() * (target - log_prob)).sum(dim=2).sum(dim=1) / 5
    assert_close(whole, expected)
    assert_close(*(torch.autograd.grad(value.sum(), s, retain_graph=True)[0] for value in (whole, expected)))


def test_a_class_that_all_samples_lack_does_not_matter():
    s, t = torch.randn(4, 5), torch.randn(4, 5)
    lacking = s.clone(), t.clone()
    for x in lacking:
        x[:, 2] -= 10_000
    assert_close(comparative(*lacking), comparative(s, t), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    "s", [1e4 * torch.eye(2).repeat(2, 1), 1e4 * torch.tensor([[1.0, -2], [0, 3], [-1, 1], [4, 0]])]
)
def test_differences_beyond_any_softmax_stay_finite(s):
    s, t = s.clone().requires_grad_(), s.flip(0)
    value = comparative(s, t, temperature=1.0)
    value.sum().backward()
    assert value.isfinite().all()
    assert (value >= 0).all()
    assert s.grad.isfinite().all()


def test_one_shift_of_all_samples_does_not_matter():
    s, t = torch.randn(4, 5), torch.randn(4, 5)
    assert_close(comparative(s + torch.randn(5), t + torch.randn(5)), comparative(s, t), rtol=1e-4, atol=1e-6)


def test_one_sample_has_nothing_to_be_compared_with():
    assert comparative(torch.randn(1, 3), torch.randn(1, 3)) == 0


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="5 and 4"):
        comparative(torch.ones(5, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="one width, found 2 and 3"):
        comparative(torch.ones(4, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match="temperature"):
        comparative(torch.ones(4, 2), torch.ones(4, 2), temperature=0.0)
