import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage.losses import dkd, kl


def by_hand(student, teacher, label, temperature):
    """Both terms of one sample, as in the paper."""
    p, q = ((x / temperature).softmax(0) for x in (teacher, student))
    pairs = [(x[label], sum(x[c] for c in range(len(x)) if c != label)) for x in (p, q)]
    two_way = sum(t * (t.log() - s.log()) for t, s in zip(*pairs, strict=True))
    among = 0.0
    for c in range(len(p)):
        if c != label:
            t, s = p[c] / pairs[0][1], q[c] / pairs[1][1]
            among = among + t * (t.log() - s.log())
    return temperature**2 * two_way, temperature**2 * among


def test_matches_the_equation_written_with_loops():
    s, t, y = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.tensor([5, 0, 2, 2])
    value = dkd(s, t, target=y, temperature=3.0, target_weight=0.7, other_weight=2.5)
    for b in range(4):
        two_way, among = by_hand(s[b], t[b], y[b], 3.0)
        assert_close(value[b], 0.7 * two_way + 2.5 * among)


def test_weighed_as_in_the_paper_it_is_plain_distillation():
    s, t, y = torch.randn(5, 7).double(), torch.randn(5, 7).double(), torch.arange(5)
    terms = [dkd(s, t, target=y, target_weight=a, other_weight=1.0 - a) for a in (1.0, 0.0)]
    unsure = 1 - (t / 4.0).softmax(1).gather(1, y[:, None])[:, 0]
    assert_close(terms[0] + unsure * terms[1], kl(s, t))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 20), st.floats(-1e3, 1e3))
def test_a_constant_added_to_the_logits_changes_nothing(temperature, shift):
    s, t, y = torch.randn(3, 5).double(), torch.randn(3, 5).double(), torch.tensor([0, 4, 2])
    assert_close(
        dkd(s + shift, t - shift, target=y, temperature=temperature), dkd(s, t, target=y, temperature=temperature)
    )


def test_a_student_that_is_sure_and_wrong_gets_a_finite_value_and_gradient():
    s = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    value = dkd(s, torch.tensor([[-1e4, 1e4, 0.0]]), target=torch.tensor([1]), temperature=1.0)
    value.sum().backward()
    assert value.isfinite().all()
    assert s.grad.isfinite().all()
    assert s.grad[0, 1] < 0


def test_two_classes_have_nothing_to_share():
    s, t, y = torch.randn(3, 2), torch.randn(3, 2), torch.tensor([0, 1, 1])
    assert_close(dkd(s, t, target=y, target_weight=0.0), torch.zeros(3))


def test_samples_without_a_label_have_zero_and_the_mean_is_over_the_others():
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    some = dkd(s, t, target=torch.tensor([0, -1, 2, -1]))
    assert some[1] == some[3] == 0
    assert_close(some.mean(), dkd(s[[0, 2]], t[[0, 2]], target=torch.tensor([0, 2])).mean())
    assert_close(dkd(s, t, target=torch.full((4,), -1)), torch.zeros(4))


def test_of_mixed_labels_the_largest_counts():
    s, t = torch.randn(2, 3), torch.randn(2, 3)
    mixed = torch.tensor([[0.2, 0.7, 0.1], [0.6, 0.0, 0.4]])
    assert_close(dkd(s, t, target=mixed), dkd(s, t, target=torch.tensor([1, 0])))


def test_standardised_it_does_not_see_the_teachers_scale():
    s, t, y = torch.randn(3, 5).double(), torch.randn(3, 5).double(), torch.tensor([0, 4, 2])
    assert_close(
        dkd(s, 9 * t + 2, target=y, standardise="sample"), dkd(s, t, target=y, standardise="sample"), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("option", [{"temperature": 0.0}, {"target_weight": -1.0}, {"standardise": "robust"}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="dkd: expected"):
        dkd(torch.ones(1, 3), torch.ones(1, 3), target=torch.tensor([0]), **option)


@pytest.mark.parametrize("target", [torch.zeros(2, 2, dtype=torch.int64), torch.zeros(3)])
def test_refuses_labels_that_do_not_fit(target):
    with pytest.raises(ValueError, match=r"labels \[B\]"):
        dkd(torch.ones(3, 5), torch.ones(3, 5), target=target)


def test_refuses_a_single_class_and_maps():
    for shape in ((3, 1), (3, 4, 2)):
        with pytest.raises(ValueError, match="at least 2 classes"):
            dkd(torch.ones(shape), torch.ones(shape), target=torch.zeros(3, dtype=torch.int64))
