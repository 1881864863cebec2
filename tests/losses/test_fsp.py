import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage.losses import fsp


def flow(x, y):
    """The FSP matrix of one sample, place by place."""
    total = torch.zeros(len(x), len(y))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            total += torch.outer(x[:, i, j], y[:, i, j])
    return total / (x.shape[1] * x.shape[2])


def test_matches_the_equation_written_with_loops():
    s = [torch.randn(2, c, 4, 4) for c in (2, 3, 4)]
    t = [torch.randn(2, c, 4, 4) for c in (2, 3, 4)]
    for b in range(2):
        expected = 0
        for i in range(2):
            off = flow(s[i][b], s[i + 1][b]) - flow(t[i][b], t[i + 1][b])
            expected += (off**2).sum() / off.numel()
        assert_close(fsp(s, t)[b], expected)


def test_matches_the_max_form_written_with_loops():
    s, t = ([torch.randn(2, 3, 4, 4), torch.randn(2, 2, 2, 2)] for _ in range(2))
    for b in range(2):
        off = flow(F.max_pool2d(s[0], 2)[b], s[1][b]) - flow(F.max_pool2d(t[0], 2)[b], t[1][b])
        assert_close(fsp(s, t, form="max")[b], sum((off[:, k] ** 2).sum().sqrt() for k in range(2)))


def test_of_two_layers_the_larger_is_averaged_down():
    s, t = ([torch.randn(2, 3, 4, 4), torch.randn(2, 2, 2, 2)] for _ in range(2))
    pooled = [[F.avg_pool2d(x[0], 2), x[1]] for x in (s, t)]
    assert_close(fsp(s, t), fsp(*pooled))


def test_the_networks_may_have_other_grids():
    t = [torch.randn(2, 3, 8, 8), torch.randn(2, 2, 8, 8)]
    s = [F.interpolate(x, scale_factor=2) for x in t]
    assert_close(fsp(s, t), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", ["average", "max"])
def test_equal_layers_have_no_loss_and_no_gradient(form):
    t = [torch.randn(2, 3, 4, 4), torch.randn(2, 2, 2, 2)]
    s = [x.clone().requires_grad_() for x in t]
    value = fsp(s, t, form=form)
    value.sum().backward()
    assert_close(value, torch.zeros(2))
    assert all(torch.equal(x.grad, torch.zeros_like(x)) for x in s)


def test_refuses_one_layer_unpaired_layers_other_widths_and_unknown_forms():
    x, wide = torch.ones(1, 2, 4, 4), torch.ones(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"at least 2 taps.*found 1 and 1"):
        fsp(x, x)
    with pytest.raises(ValueError, match="found 2 and 3"):
        fsp([x, x], [x, x, x])
    with pytest.raises(ValueError, match=r"equal channels.*\(1, 2, 4, 4\).*\(1, 3, 4, 4\).*Project"):
        fsp([x, x], [x, wide])
    with pytest.raises(ValueError, match="found 'sum'"):
        fsp([x, x], [x, x], form="sum")
