import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import activation_boundary


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_matches_the_equation_written_with_loops(margin):
    s, t = 2 * torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3)
    t[:, 0, 0, 0] = 0
    for b in range(3):
        total = torch.zeros(())
        for x, y in zip(s[b].flatten(), t[b].flatten(), strict=True):
            if y > 0 and x <= margin:
                total += (x - margin) ** 2
            elif y <= 0 and x > -margin:
                total += (x + margin) ** 2
        assert_close(activation_boundary(s, t, margin=margin)[b], total)


def test_only_the_side_of_the_teacher_matters():
    s, t = torch.randn(2, 8), torch.randn(2, 8)
    assert torch.equal(activation_boundary(s, 100 * t), activation_boundary(s, t))


def test_a_student_beyond_the_margin_is_left_alone():
    t = torch.randn(2, 8)
    s = (1.5 * t.sign()).requires_grad_()
    value = activation_boundary(s, t)
    value.sum().backward()
    assert_close(value, torch.zeros(2))
    assert_close(s.grad, torch.zeros(2, 8))


def test_refuses_other_shapes_and_a_negative_margin():
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\).*\(1, 3, 4, 4\).*relu=False"):
        activation_boundary(torch.ones(1, 2, 4, 4), torch.ones(1, 3, 4, 4))
    with pytest.raises(ValueError, match="margin >= 0, found -1"):
        activation_boundary(torch.ones(1, 2), torch.ones(1, 2), margin=-1)
