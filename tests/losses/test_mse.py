import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import mse


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    for b in range(3):
        assert_close(mse(s, t)[b], sum((s[b, i, j] - t[b, i, j]) ** 2 for i in range(2) for j in range(4)) / 8)


def test_standardised_it_does_not_see_the_teachers_scale():
    s, t = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    assert_close(mse(s, 50 * t + 7, standardise=True), mse(s, t, standardise=True), rtol=1e-4, atol=1e-5)
    target = (t[0] - t[0].mean()) / t[0].std(correction=0)
    assert_close(mse(s, t, standardise=True)[0], (s[0] - target).square().mean(), rtol=1e-4, atol=1e-5)


def test_names_both_shapes_when_they_differ():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 4\).*Project"):
        mse(torch.ones(1, 3), torch.ones(1, 4))
