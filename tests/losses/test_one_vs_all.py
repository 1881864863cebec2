import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import one_vs_all


@pytest.mark.parametrize(("temperature", "focus"), [(1.0, 1.0), (2.0, 0.0), (1.0, 2.0)])
def test_matches_the_equation_written_with_loops(temperature, focus):
    s, t = torch.randn(3, 4), torch.randn(3, 4)
    value = one_vs_all(s, t, temperature=temperature, focus=focus)
    for b in range(3):
        expected = 0.0
        for c in range(4):
            p, q = ((x[b, c] / temperature).sigmoid() for x in (t, s))
            expected -= (p - q).abs() ** focus * (p * q.log() + (1 - p) * (1 - q).log())
        assert_close(value[b], temperature**2 * expected)


def test_classes_do_not_compete():
    s, t = torch.randn(2, 3), torch.randn(2, 3)
    raised = s.clone()
    raised[:, 0] += 1
    change = one_vs_all(raised, t, focus=0.0) - one_vs_all(s, t, focus=0.0)
    assert_close(change, one_vs_all(raised[:, :1], t[:, :1], focus=0.0) - one_vs_all(s[:, :1], t[:, :1], focus=0.0))


def test_it_is_zero_at_agreement_only_with_a_focus():
    s = torch.randn(2, 3)
    assert not one_vs_all(s, s).any()
    assert (one_vs_all(s, s, focus=0.0) > 0).all()


def test_gradient_flows_through_the_focus_unless_told_otherwise():
    s, t = torch.zeros(1, 1, requires_grad=True), torch.tensor([[2.0]])
    through, constant = (
        torch.autograd.grad(one_vs_all(s, t, through_focus=through).sum(), s)[0] for through in (True, False)
    )
    gap = t.sigmoid() - 0.5
    assert_close(constant, -(gap**2))
    assert_close(through - constant, -torch.tensor([[2.0]]).log() / 4)


def test_maps_and_masks():
    s, t, mask = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1]])
    cells = torch.stack([one_vs_all(s[..., i], t[..., i]) for i in range(4)], dim=1)
    assert_close(one_vs_all(s, t), cells.mean(dim=1))
    assert_close(one_vs_all(s, t, mask=mask).mean(), cells[mask.bool()].mean())


@pytest.mark.parametrize("option", [{"temperature": 0.0}, {"focus": 0.5}, {"focus": -1.0}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="one_vs_all: expected"):
        one_vs_all(torch.ones(1, 3), torch.ones(1, 3), **option)
