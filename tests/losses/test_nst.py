import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage.losses import nst


def unit(x):
    flat = x.flatten(1)
    return flat / flat.norm(dim=1, keepdim=True)


def kernel(a, b):
    """The mean of (u·v)² over all pairs of channels, one by one."""
    return sum((u @ v) ** 2 for u in a for v in b) / (len(a) * len(b))


@pytest.mark.parametrize("grid", [(2, 3), (1, 2)])
def test_matches_the_equation_written_with_loops(grid):
    s, t = torch.randn(3, 2, *grid), torch.randn(3, 4, *grid)
    for b in range(3):
        u, v = unit(s[b]), unit(t[b])
        assert_close(nst(s, t)[b], kernel(v, v) + kernel(u, u) - 2 * kernel(u, v))


def test_matches_the_gram_form_written_with_loops():
    s, t = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    for b in range(2):
        u, v = unit(s[b]), unit(t[b])
        off = [(u[c] @ u[d] - v[c] @ v[d]) ** 2 for c in range(3) for d in range(3)]
        assert_close(nst(s, t, form="gram")[b], sum(off) / 9)


def test_a_set_of_channels_has_no_order_and_no_scale():
    s, t = torch.randn(2, 5, 4, 4), torch.randn(2, 3, 4, 4)
    assert_close(nst(7 * s[:, torch.randperm(5)], 0.1 * t.flip(1)), nst(s, t))
    assert_close(nst(torch.cat([t, t], dim=1), t), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_averaged_down(larger):
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    pooled = F.avg_pool2d(large, 2)
    pair, expected = ((large, small), (pooled, small)) if larger == "student" else ((small, large), (small, pooled))
    assert_close(nst(*pair), nst(*expected))


def test_a_dead_channel_has_no_gradient():
    s = torch.randn(1, 3, 4, 4)
    s[:, 0] = 0
    s.requires_grad_()
    nst(s, torch.randn(1, 3, 4, 4)).sum().backward()
    assert_close(s.grad[:, 0], torch.zeros(1, 4, 4))


def test_refuses_what_has_no_grid_other_widths_with_gram_and_unknown_forms():
    with pytest.raises(ValueError, match=r"maps.*\(2, 5\)"):
        nst(torch.ones(2, 5), torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"equal channels.*\(1, 2, 2, 2\).*\(1, 3, 2, 2\).*Project"):
        nst(torch.ones(1, 2, 2, 2), torch.ones(1, 3, 2, 2), form="gram")
    with pytest.raises(ValueError, match="'mmd' or 'gram', found 'rbf'"):
        nst(torch.ones(1, 2, 2, 2), torch.ones(1, 3, 2, 2), form="rbf")
