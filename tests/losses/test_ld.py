import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import ld


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_matches_the_equation_written_with_loops(reduction):
    student, teacher, weight = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.rand(2, 3)
    loss = 0.0
    for b in range(2):
        for a in range(3):
            for side in range(4):
                s, t = (x[b, a, side].div(10).softmax(0) for x in (student, teacher))
                loss += 100 * weight[b, a] * sum(t[n] * (t[n] / s[n]).log() for n in range(5))
    expected = loss / weight.sum() / (1 if reduction == "sum" else 4 * 5)
    assert_close(
        ld(student, teacher, element_weight=weight, reduction=reduction).mean(), expected, rtol=1e-4, atol=1e-6
    )


def test_a_location_counts_as_much_as_its_weight():
    student, teacher = torch.randn(1, 2, 4, 5), torch.randn(1, 2, 4, 5)
    assert_close(ld(student, teacher, element_weight=torch.tensor([[3.0, 0.0]])), ld(student[:, :1], teacher[:, :1]))
    assert_close(ld(student, teacher, element_weight=torch.ones(1, 2)), ld(student, teacher))
    assert ld(student, teacher, element_weight=torch.zeros(1, 2)) == 0


def test_gradient_does_not_flow_through_the_weights():
    student, weight = torch.randn(1, 2, 4, 5, requires_grad=True), torch.rand(1, 2, requires_grad=True)
    ld(student, torch.randn(1, 2, 4, 5), element_weight=weight).sum().backward()
    assert student.grad.abs().sum() > 0
    assert weight.grad is None


def test_equal_distributions_have_no_loss_whatever_is_added_to_their_logits():
    teacher = 1e4 * torch.randn(2, 3, 4, 17)
    assert ld(teacher + 5.0, teacher).abs().max() < 1e-2
    assert (ld(teacher, teacher) == 0).all()


def test_heads_without_bins_and_weights_of_other_locations_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 6, 4\).*anchor_boxes"):
        ld(torch.zeros(1, 6, 4), torch.zeros(1, 6, 4))
    with pytest.raises(ValueError, match=r"for each location, \[1, 6\], found \[1, 5\]"):
        ld(torch.zeros(1, 6, 4, 3), torch.zeros(1, 6, 4, 3), element_weight=torch.ones(1, 5))
    with pytest.raises(ValueError, match="reduction 'sum' or 'mean'"):
        ld(torch.zeros(1, 6, 4, 3), torch.zeros(1, 6, 4, 3), reduction="none")
