import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.losses.temperature import TEMPERATURES, softness, suggest


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.floats(0.1, 50.0), st.integers(0, 99))
def test_heat_softens_and_stays_within_its_range(classes, scale, seed):
    found = softness(scale * torch.randn(16, classes, generator=torch.Generator().manual_seed(seed)))
    shares = [found[temperature] for temperature in TEMPERATURES]
    assert shares == sorted(shares)
    assert all(-1e-6 <= share <= 1 + 1e-6 for share in shares)


def test_a_surer_teacher_is_warmed_more():
    logits = torch.randn(50, 10)
    warm = [suggest(softness(scale * logits), capacity=0.1) for scale in (2.0, 6.0, 15.0)]
    assert warm == sorted(warm)
    assert warm[0] < warm[-1]


def test_a_larger_student_is_asked_for_more():
    soft = softness(10 * torch.randn(50, 10))
    small, large, larger = (suggest(soft, capacity=capacity) for capacity in (0.01, 1.0, 9.0))
    assert small < large == larger


@pytest.mark.parametrize("capacity", [0.0, -1.0, float("nan")])
def test_refuses_a_student_without_size(capacity):
    with pytest.raises(ValueError, match="above 0"):
        suggest({1.0: 0.5}, capacity=capacity)
