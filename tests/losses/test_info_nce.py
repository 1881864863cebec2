import math

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import info_nce


@pytest.mark.parametrize("symmetric", [True, False])
def test_matches_the_equation_written_with_loops(symmetric):
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    value = info_nce(s, t, temperature=0.5, symmetric=symmetric)

    def alike(i, j):
        return math.exp(torch.cosine_similarity(s[i], t[j], dim=0) / 0.5)

    for i in range(4):
        there = -math.log(alike(i, i) / sum(alike(i, j) for j in range(4)))
        back = -math.log(alike(i, i) / sum(alike(j, i) for j in range(4)))
        expected = (there + back) / 2 if symmetric else there
        assert float(value[i]) == pytest.approx(expected, rel=1e-4)


def test_it_is_the_cross_entropy_of_a_guess_where_all_look_alike():
    assert_close(info_nce(torch.ones(5, 3), torch.ones(5, 3)), torch.full((5,), math.log(5)))


def test_length_does_not_matter_and_one_sample_is_always_found():
    s, t = torch.randn(4, 2, 2), torch.randn(4, 2, 2)
    assert_close(info_nce(3 * s, 9 * t), info_nce(s, t), rtol=1e-4, atol=1e-5)
    assert info_nce(s[:1], t[:1]) == 0


def test_a_cold_temperature_is_finite():
    s = torch.randn(4, 3, requires_grad=True)
    info_nce(s, torch.randn(4, 3), temperature=1e-4).sum().backward()
    assert s.grad.isfinite().all()


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 4\).*Project"):
        info_nce(torch.ones(1, 3), torch.ones(1, 4))
    with pytest.raises(ValueError, match="temperature"):
        info_nce(torch.ones(1, 3), torch.ones(1, 3), temperature=0.0)
