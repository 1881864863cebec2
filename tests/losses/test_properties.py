"""What losses of one kind have in common, for inputs of any size and scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage import losses

ZERO_AT_AGREEMENT = {
    "attention": (3, 4, 4),
    "comparative": (5,),
    "correlation": (5,),
    "cwd": (3, 4, 4),
    "dkd": (5,),
    "irg": (5,),
    "kl": (5,),
    "mse": (5,),
    "one_vs_all": (5,),
    "pairwise": (3, 4, 4),
    "pkt": (5,),
    "rkd_angle": (5,),
    "rkd_distance": (5,),
    "self_attention": (2, 4, 4),
    "similarity": (5,),
    "spherical": (5,),
    "token_relations": (5, 6),
}
BLIND_TO_A_SHIFT_OF_LOGITS = ("comparative", "dist", "dkd", "kl", "nkd", "soft_cross_entropy", "spherical", "transport")
BLIND_TO_A_TURN = ("correlation", "info_nce", "pkt", "rkd_angle", "rkd_distance", "similarity")

sizes = st.integers(2, 6)
scales = st.floats(0.01, 30.0)
seeds = st.integers(0, 2**16)


def drawn(size, shape, scale, seed):
    return scale * torch.randn(size, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ask(name, student, teacher):
    labelled = {"target": torch.arange(len(student)) % student.shape[1]} if name in ("dkd", "nkd") else {}
    return getattr(losses, name)(student, teacher, **labelled)


@pytest.mark.parametrize("name", ZERO_AT_AGREEMENT)
@settings(max_examples=15, deadline=None)
@given(size=sizes, scale=scales, seed=seeds)
def test_it_is_zero_with_zero_gradient_at_agreement_and_never_negative(name, size, scale, seed):
    teacher = drawn(size, ZERO_AT_AGREEMENT[name], scale, seed)
    student = teacher.clone().requires_grad_()
    value = ask(name, student, teacher)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert_close(value, torch.zeros(size).double(), rtol=0, atol=1e-5)
    assert_close(gradient * scale, torch.zeros_like(student), rtol=0, atol=1e-5)
    assert (ask(name, drawn(size, ZERO_AT_AGREEMENT[name], scale, seed + 1), teacher) > -1e-6).all()


@pytest.mark.parametrize("name", BLIND_TO_A_SHIFT_OF_LOGITS)
@settings(max_examples=15, deadline=None)
@given(size=sizes, scale=scales, seed=seeds, shift=st.floats(-50, 50))
def test_a_constant_added_to_all_logits_of_the_batch_changes_nothing(name, size, scale, seed, shift):
    student, teacher = drawn(size, (5,), scale, seed), drawn(size, (5,), scale, seed + 1)
    assert_close(ask(name, student + shift, teacher - shift), ask(name, student, teacher), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BLIND_TO_A_TURN)
@settings(max_examples=15, deadline=None)
@given(size=sizes, scale=scales, seed=seeds)
def test_turned_features_are_the_same(name, size, scale, seed):
    student, teacher = drawn(size, (5,), scale, seed), drawn(size, (5,), scale, seed + 1)
    turn = torch.linalg.qr(drawn(5, (5,), 1.0, seed + 2)).Q
    both = (student @ turn, teacher @ turn) if name == "info_nce" else (student @ turn, teacher)
    assert_close(ask(name, *both), ask(name, student, teacher), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dkd", "nkd", "virtual_teacher"])
@settings(max_examples=15, deadline=None)
@given(seed=seeds, known=st.lists(st.booleans(), min_size=2, max_size=6))
def test_the_batch_mean_is_the_mean_over_the_labelled(name, seed, known):
    student, teacher = drawn(len(known), (5,), 1.0, seed), drawn(len(known), (5,), 1.0, seed + 1)
    known = torch.tensor(known)
    target = torch.where(known, torch.arange(len(known)) % 5, -1)
    value = getattr(losses, name)(student, teacher, target=target)
    assert not value[~known].any()
    if known.any():
        alone = getattr(losses, name)(student[known], teacher[known], target=target[known])
        assert_close(value.mean(), alone.mean())
