import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage.losses import DPK
from tutelage.losses.dpk import cka


def made(**options):
    return DPK(student=(4, 5, 5), teacher=(6, 5, 5), **options)


def test_the_generator_sees_the_teacher_where_the_mask_is_and_the_student_elsewhere():
    loss, student, teacher = made(), torch.randn(3, 4, 5, 5), torch.randn(3, 6, 5, 5)
    mask = (torch.rand(3, 1, 5, 5) < 0.5).float()
    loss.draw = lambda x, share: mask
    mixed = torch.where(mask.bool(), teacher, loss.align(student))
    expected = (loss.generator(mixed) - teacher).square().mean(dim=(1, 2, 3))
    assert_close(loss(student, teacher), expected)


def test_the_nearer_the_student_the_less_it_is_given():
    loss, teacher, shares = made(), torch.randn(8, 6, 5, 5), []
    loss.draw = lambda x, share: shares.append(float(share)) or torch.zeros(len(x), 1, 5, 5)
    for noise in (0.0, 1.0, 100.0):
        loss(teacher[:, :4] + noise * torch.randn(8, 4, 5, 5), teacher)
    assert shares == sorted(shares)
    assert shares[0] < 0.3
    assert shares[-1] <= 0.9


def test_places_are_drawn_as_often_as_the_share_says():
    drawn = made().draw(torch.ones(40, 6, 30, 30), torch.tensor(0.25))
    assert drawn.shape == (40, 1, 30, 30)
    assert_close(drawn.mean(), torch.tensor(0.25), rtol=0.0, atol=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.floats(0.1, 10.0), st.integers(0, 99))
def test_alignment_is_blind_to_scale_shift_and_turn(batch, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(batch, 5, generator=generator).double() for _ in range(2))
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator).double())
    assert_close(cka(a, scale * b @ turn + 3), cka(a, b), rtol=1e-6, atol=1e-9)
    assert_close(cka(a, a), torch.ones((), dtype=torch.float64))
    assert 0 <= cka(a, b) <= 1


def test_refuses_other_grids_and_a_share_of_all():
    with pytest.raises(ValueError, match="one grid"):
        DPK(student=(4, 5, 5), teacher=(6, 3, 3))
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        made(most=1.0)
