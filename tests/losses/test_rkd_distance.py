import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage.losses import rkd_distance


def huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


@pytest.mark.parametrize("normalise", [False, True])
def test_matches_the_equation_written_with_loops(normalise):
    s, t = torch.randn(5, 2, 3).double(), torch.randn(5, 7).double()
    matrices = []
    for x in (s.flatten(1), t):
        rows = [row / row.norm() if normalise else row for row in x]
        apart = torch.stack([torch.stack([(a - b).norm() for b in rows]) for a in rows])
        matrices.append(apart / (sum(apart.flatten()) / 20))
    value = rkd_distance(s, t, normalise=normalise)
    for i in range(5):
        assert_close(value[i], sum(huber(matrices[0][i, j] - matrices[1][i, j]) for j in range(5)) / 5)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_scale_and_place_do_not_matter(scale, shift):
    s, t = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    assert_close(rkd_distance(scale * s + shift, t), rkd_distance(s, t))


def test_a_common_offset_costs_no_digits():
    s, t = torch.randn(6, 8), torch.randn(6, 8)
    moved = torch.round(s * 64) / 64
    assert_close(rkd_distance(moved + 1024, t), rkd_distance(moved, t), rtol=1e-5, atol=1e-7)


def test_samples_that_coincide_give_a_finite_gradient():
    s = torch.randn(4, 3)
    s[1] = s[0]
    s.requires_grad_()
    rkd_distance(s, torch.randn(4, 3)).sum().backward()
    assert s.grad.isfinite().all()
    assert s.grad.abs().max() < 10


def test_all_alike_is_finite():
    assert rkd_distance(torch.ones(4, 3), torch.randn(4, 3)).isfinite().all()


def test_one_sample_has_no_distances():
    assert rkd_distance(torch.randn(1, 3), torch.randn(1, 5)) == 0


def test_refuses_batches_of_different_size():
    with pytest.raises(ValueError, match="5 and 4"):
        rkd_distance(torch.ones(5, 2), torch.ones(4, 2))
