import math

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import OFD
from tutelage.losses.ofd import margin


def plain(**options):
    """An OFD whose connector passes the student on."""
    loss = OFD(student=(3, 4, 4), teacher=(3, 4, 4), **options)
    loss.connector = torch.nn.Identity()
    return loss


def test_matches_the_equation_written_with_loops():
    s, t = 2 * torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    loss = plain(scale=torch.tensor([1.0, 0.5, 2.0]), shift=torch.tensor([0.0, 0.3, -1.0]))
    for b in range(2):
        total = torch.zeros(())
        for c in range(3):
            m = loss.margin[c]
            for x, y in zip(s[b, c].flatten(), t[b, c].flatten(), strict=True):
                if y > 0 or (m < y <= 0 and x > y):
                    total += (x - y) ** 2
                elif y <= m and x > m:
                    total += (x - m) ** 2
        assert_close(loss(s, t)[b], total)


def test_the_margin_is_the_mean_of_a_normal_variable_where_it_is_negative():
    scale, shift = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, -1.0, 0.3])
    draws = torch.randn(400_000) * scale.abs()[:, None] + shift[:, None]
    expected = torch.stack([row[row < 0].mean() for row in draws])
    assert_close(margin(scale, shift), expected, rtol=1e-2, atol=0)


def test_the_margin_of_a_channel_that_is_hardly_ever_negative_or_constant():
    found = margin(torch.tensor([1.0, 0.0, 0.0, 1e-8]), torch.tensor([3.2, -2.0, 2.0, -1e4]))
    assert_close(found, torch.tensor([-3.0, -2.0, 0.0, -1e4]))


def test_without_scale_and_shift_the_margin_is_the_mean_below_zero_in_the_batch():
    s, t = torch.zeros(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    t[:, 2] = t[:, 2].abs()
    means = [[x for x in t[:, c].flatten() if x < 0] for c in range(3)]
    lowest = [sum(m) / len(m) if m else 0.0 for m in means]
    expected = sum(max(x, torch.as_tensor(lowest[c])) ** 2 for c in range(3) for x in t[0, c].flatten())
    assert_close(plain()(s, t)[0], expected)


def test_scale_and_shift_may_be_lists_as_in_a_recipe():
    loss = OFD(scale=[1.0, 1.0], shift=[0.0, 9.0])
    assert_close(loss.margin, torch.tensor([-0.797885, -3.0]))


def test_a_student_below_where_the_teacher_is_off_is_left_alone():
    t = -torch.rand(2, 3, 4, 4)
    s = (t - 5).requires_grad_()
    value = plain()(s, t)
    value.sum().backward()
    assert_close(value, torch.zeros(2))
    assert_close(s.grad, torch.zeros_like(t))


def test_the_teacher_is_averaged_to_the_grid_of_the_student():
    s, t = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    made = plain()
    assert_close(made(s, t), made(s, torch.nn.functional.avg_pool2d(t, 2)))


def test_the_connector_is_a_convolution_of_any_odd_size_and_a_normalisation():
    loss = OFD(student=(4, 4, 4), teacher=(60, 4, 4), kernel_size=3)
    assert loss.connector[0].weight.shape == (60, 4, 3, 3)
    assert_close(loss.connector[0].weight.std().item(), math.sqrt(2 / (9 * 60)), rtol=0.1, atol=0)
    out = loss.connector(torch.randn(8, 4, 4, 4))
    assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(60), atol=1e-5, rtol=0)


def test_refuses_half_of_the_normalisation_other_widths_and_even_kernels():
    with pytest.raises(ValueError, match="scale and shift together"):
        OFD(scale=torch.ones(3))
    with pytest.raises(ValueError, match=r"as scale and shift \(5\).*\(3, 4, 4\)"):
        OFD(student=(3, 4, 4), teacher=(3, 4, 4), scale=torch.ones(5), shift=torch.ones(5))
    with pytest.raises(ValueError, match=r"odd kernel_size.*found 2"):
        OFD(kernel_size=2)
    with pytest.raises(ValueError, match=r"expected maps"):
        OFD(student=(3, 4, 4), teacher=(3, 4, 4))(torch.ones(2, 3), torch.ones(2, 3))
