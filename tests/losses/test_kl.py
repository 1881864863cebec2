import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import kl


def by_hand(student, teacher, temperature):
    """One sample, one position."""
    p = [torch.exp(x / temperature) / torch.exp(x / temperature).sum() for x in (student, teacher)]
    return temperature**2 * sum(t * (t.log() - s.log()) for s, t in zip(*p, strict=True))


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(4, 7), torch.randn(4, 7)
    for b in range(4):
        assert_close(kl(s, t, temperature=3.0)[b], by_hand(s[b], t[b], 3.0))


def test_maps_are_averaged_over_positions():
    s, t = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    for b in range(2):
        cells = [by_hand(s[b, :, i, j], t[b, :, i, j], 2.0) for i in range(3) for j in range(4)]
        assert_close(kl(s, t, temperature=2.0)[b], sum(cells) / 12)


def test_at_high_temperature_it_is_half_the_squared_difference_of_centred_logits():
    s, t = torch.randn(3, 5).double(), torch.randn(3, 5).double()
    centred = [x - x.mean(dim=1, keepdim=True) for x in (s, t)]
    expected = (centred[0] - centred[1]).square().mean(dim=1) / 2
    assert_close(kl(s, t, temperature=1e4), expected, rtol=1e-3, atol=1e-6)


def test_with_a_mask_the_batch_mean_is_over_the_positions_that_count():
    s, t, mask = torch.randn(3, 5, 4), torch.randn(3, 5, 4), torch.rand(3, 4) > 0.4
    cells = [by_hand(s[b, :, i], t[b, :, i], 4.0) for b in range(3) for i in range(4) if mask[b, i]]
    assert_close(kl(s, t, mask=mask).mean(), sum(cells) / len(cells))


def test_masked_positions_may_hold_anything_and_give_no_gradient():
    s, t = torch.randn(2, 5, 4, requires_grad=True), torch.randn(2, 5, 4)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    value = kl(s, t, mask=mask)
    value.sum().backward()
    assert_close(value, kl(s, torch.where(mask[:, None], t, 1e4), mask=mask))
    assert value[1] == 0
    assert not s.grad[:, :, 2:].any()
    assert s.grad[0, :, :2].all()


def test_nothing_valid_gives_zero():
    assert_close(kl(torch.randn(2, 3, 4), torch.randn(2, 3, 4), mask=torch.zeros(2, 4)), torch.zeros(2))


def test_element_weights_multiply_each_position():
    s, t, weight = torch.randn(2, 5, 4), torch.randn(2, 5, 4), torch.rand(2, 4)
    cells = torch.stack([kl(s[..., i], t[..., i]) for i in range(4)], dim=1)
    assert_close(kl(s, t, element_weight=weight), (weight * cells).mean(dim=1))


def test_names_both_shapes_when_classes_differ():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 4\)"):
        kl(torch.ones(1, 3), torch.ones(1, 4))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match="temperature > 0"):
        kl(torch.ones(1, 3), torch.ones(1, 3), temperature=temperature)


@pytest.mark.parametrize(("spread", "correction"), [("population", 0), ("sample", 1)])
def test_standardised_logits_have_mean_zero_and_deviation_one(spread, correction):
    s, t = torch.randn(4, 7).double(), torch.randn(4, 7).double()
    for b in range(4):
        z = [(x[b] - x[b].mean()) / (x[b].std(correction=correction) + 1e-7) for x in (s, t)]
        assert_close(kl(s, t, temperature=2.0, standardise=spread)[b], by_hand(*z, 2.0))


def test_standardised_neither_scale_nor_shift_matters():
    s, t = torch.randn(3, 5), torch.randn(3, 5)
    assert_close(kl(20 * s + 3, t - 8, standardise="population"), kl(s, t, standardise="population"))


def test_standardised_equal_logits_give_a_finite_gradient():
    s = torch.zeros(2, 5, requires_grad=True)
    kl(s, torch.randn(2, 5), standardise="population").sum().backward()
    assert s.grad.isfinite().all()


def test_refuses_an_unknown_deviation():
    with pytest.raises(ValueError, match="standardise='population', 'sample' or None, found 'yes'"):
        kl(torch.ones(1, 3), torch.ones(1, 3), standardise="yes")
