import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import rkd_angle


def huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


@pytest.mark.parametrize("normalise", [False, True])
def test_matches_the_equation_written_with_loops(normalise):
    s, t = torch.randn(4, 2, 3).double(), torch.randn(4, 7).double()

    def cosine(x, i, j, k):
        rows = [row / row.norm() if normalise else row for row in x.flatten(1)]
        if i in (j, k):
            return torch.zeros(()).double()
        a, b = rows[j] - rows[i], rows[k] - rows[i]
        return a @ b / (a.norm() * b.norm())

    value = rkd_angle(s, t, normalise=normalise)
    for i in range(4):
        pairs = [(j, k) for j in range(4) for k in range(4)]
        assert_close(value[i], sum(huber(cosine(s, i, j, k) - cosine(t, i, j, k)) for j, k in pairs) / 16)


def test_scaled_moved_and_turned_features_are_the_same():
    s, t = torch.randn(5, 6).double(), torch.randn(5, 8).double()
    turn = torch.linalg.qr(torch.randn(6, 6).double()).Q
    assert_close(rkd_angle(3 * s @ turn + 5, t), rkd_angle(s, t))


def test_samples_that_coincide_form_no_angle_and_get_a_bounded_gradient():
    s = torch.randn(4, 3)
    s[1] = s[0]
    s.requires_grad_()
    rkd_angle(s, torch.randn(4, 3)).sum().backward()
    assert s.grad.isfinite().all()
    assert s.grad.abs().max() < 10


def test_samples_that_lie_close_together_far_away_cost_no_digits():
    s = torch.round(torch.randn(6, 8) * 64) / 64
    s[3:] = s[3:] + 512
    t = torch.randn(6, 8)
    exact = rkd_angle(s.double() - s[0].double(), t.double())
    assert_close(rkd_angle(s, t).double(), exact, rtol=1e-5, atol=1e-7)
    far = rkd_angle(s + 4096, t)
    assert_close(far.double(), exact, rtol=1e-5, atol=1e-7)


def test_two_samples_form_no_angles_and_one_neither():
    assert_close(rkd_angle(torch.randn(2, 3), torch.randn(2, 5)), torch.zeros(2))
    assert rkd_angle(torch.randn(1, 3), torch.randn(1, 5)) == 0


def test_refuses_batches_of_different_size():
    with pytest.raises(ValueError, match="5 and 4"):
        rkd_angle(torch.ones(5, 2), torch.ones(4, 2))
