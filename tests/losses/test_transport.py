import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import transport


def plan(p, q, cost, regularisation, steps=3000):
    """Sinkhorn's iteration on the plan itself: scale rows, then columns, until it has both margins."""
    moved = (-cost / regularisation).exp() * p[:, None] * q[None, :]
    for _ in range(steps):
        moved = moved * (p / moved.sum(1))[:, None]
        moved = moved * (q / moved.sum(0))[None, :]
    return moved


def test_matches_the_plan_written_out():
    s, t, cost = torch.randn(3, 4).double(), torch.randn(3, 5).double(), torch.rand(5, 4).double()
    cost = cost / cost.max()
    value = transport(s, t, cost=cost, regularisation=0.2, steps=1000)
    for b in range(3):
        p, q = t[b].softmax(0), s[b].softmax(0)
        moved = plan(p, q, cost, 0.2)
        information = (moved * (moved / (p[:, None] * q[None, :])).log()).sum()
        assert_close(value[b], (moved * cost).sum() + 0.2 * information)


def test_gradient_is_that_of_the_value():
    s, t, cost = torch.randn(2, 3).double(), torch.randn(2, 4).double(), torch.rand(4, 3).double()
    options = {"cost": cost, "steps": 300, "temperature": 2.0, "regularisation": 0.3}
    torch.autograd.gradcheck(lambda x: transport(x, t, **options), s.requires_grad_())


def test_with_little_blur_it_tends_to_half_the_absolute_difference():
    s, t = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    exact = (s.softmax(1) - t.softmax(1)).abs().sum(dim=1) / 2
    assert_close(transport(s, t, regularisation=0.02, steps=2000), exact, rtol=0, atol=0.05)


def test_between_sure_answers_it_is_the_cost_of_the_two_classes():
    cost = torch.tensor([[0.0, 2.0, 4.0], [1.0, 3.0, 0.5]])
    sure = 60 * torch.eye(3)
    value = transport(sure, 60 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), cost=cost)
    assert_close(value, torch.tensor([0.0, 3.0, 4.0]) / 4, rtol=0, atol=1e-5)


def test_the_unit_of_costs_does_not_matter_and_lists_will_do():
    s, t, cost = torch.randn(3, 2), torch.randn(3, 3), [[0.0, 1.0], [2.0, 0.5], [1.0, 1.0]]
    assert_close(transport(s, t, cost=cost), transport(s, t, cost=1000 * torch.tensor(cost)))


def test_it_is_never_negative():
    s, t = 5 * torch.randn(50, 6), 5 * torch.randn(50, 6)
    assert (transport(s, t, steps=200) > -1e-5).all()
    assert (transport(s, s, steps=200) > -1e-5).all()


@pytest.mark.parametrize("regularisation", [0.02, 0.1, 5.0])
def test_extreme_logits_are_finite(regularisation):
    s = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 1e4]], requires_grad=True)
    value = transport(s, torch.tensor([[-1e4, 1e4, 3.0], [1e4, 0.0, 0.0]]), regularisation=regularisation)
    value.sum().backward()
    assert value.isfinite().all()
    assert s.grad.isfinite().all()


@pytest.mark.parametrize(
    "cost", [None, torch.ones(3, 4), -torch.ones(4, 3), torch.zeros(4, 3), torch.full((4, 3), torch.nan)]
)
def test_refuses_costs_that_do_not_fit(cost):
    with pytest.raises(ValueError, match="transport: expected costs"):
        transport(torch.ones(2, 3), torch.ones(2, 4), cost=cost)


@pytest.mark.parametrize("option", [{"regularisation": 0.01}, {"steps": 0}, {"temperature": 0.0}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="transport: expected"):
        transport(torch.ones(2, 3), torch.ones(2, 3), **option)
