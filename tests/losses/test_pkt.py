import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import pkt


@pytest.mark.parametrize("diagonal", [False, True])
def test_matches_the_equation_written_with_loops(diagonal):
    s, t = torch.randn(4, 2, 3).double(), torch.randn(4, 7).double()
    value = pkt(s, t, diagonal=diagonal, eps=0.0)
    for i in range(4):
        rows = []
        for x in (s.flatten(1), t):
            alike = [(torch.cosine_similarity(x[i], x[j], dim=0) + 1) / 2 for j in range(4) if diagonal or j != i]
            rows.append([a / sum(alike) for a in alike])
        assert_close(value[i], sum(p * (p.log() - q.log()) for q, p in zip(*rows, strict=True)))


def test_the_length_of_features_does_not_matter():
    s, t = torch.randn(5, 6), torch.randn(5, 3)
    assert_close(pkt(torch.rand(5, 1).exp() * s, 9 * t), pkt(s, t), rtol=1e-4, atol=1e-6)


def test_opposites_to_the_student_are_finite_and_wrong():
    s = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    value = pkt(s, torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
    value.sum().backward()
    assert value[0] > 1
    assert s.grad.isfinite().all()


def test_opposites_to_the_teacher_are_never_picked():
    t = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    value = pkt(t.flip(1) * 2, t, eps=0.0)
    assert value.isfinite().all()


def test_a_zero_vector_is_halfway_to_all_others():
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    s[2] = 0
    s.requires_grad_()
    value = pkt(s, t)
    value.sum().backward()
    assert value.isfinite().all()
    assert s.grad.isfinite().all()


@pytest.mark.parametrize("size", [1, 2])
def test_one_or_two_samples_have_no_choice(size):
    assert_close(pkt(torch.randn(size, 3), torch.randn(size, 3)), torch.zeros(size))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="5 and 4"):
        pkt(torch.ones(5, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="eps"):
        pkt(torch.ones(5, 2), torch.ones(5, 2), eps=-1.0)
