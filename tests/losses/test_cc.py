import itertools

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import CC


def errors(loss, student, teacher):
    return (loss.student_head(student) - loss.teacher_head(teacher)).abs()


@pytest.mark.parametrize("pairs", ["all", "consecutive"])
def test_matches_the_equation_written_with_loops(pairs):
    loss = CC(student=(4,), teacher=(6,), feat_dim=3, pairs=pairs)
    s, t = torch.randn(5, 4), torch.randn(5, 6)
    error, value = errors(loss, s, t), loss(s, t)
    for i in range(5):
        others = [j for j in range(5) if j != i] if pairs == "all" else range(i + 1, min(i + 2, 5))
        overlap = sum(sum(error[i, d] * error[j, d] for d in range(3)) for j in others)
        assert_close(value[i], torch.as_tensor(overlap * (1 if pairs == "all" else 5) / 4).float())


def test_all_pairs_are_the_mean_over_all_orders_of_the_batch():
    whole, ordered = CC(feat_dim=None), CC(feat_dim=None, pairs="consecutive")
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    orders = [list(order) for order in itertools.permutations(range(4))]
    mean = torch.stack([ordered(s[order], t[order]).mean() for order in orders]).mean()
    assert_close(whole(s, t).mean(), mean)


@pytest.mark.parametrize("pairs", ["all", "consecutive"])
def test_one_sample_has_no_pair(pairs):
    assert CC(feat_dim=None, pairs=pairs)(torch.randn(1, 3), torch.randn(1, 3)) == 0


def test_both_heads_learn():
    loss = CC(student=(4,), teacher=(6,), feat_dim=3)
    loss(torch.randn(5, 4), torch.randn(5, 6)).sum().backward()
    assert all(p.grad.any() for p in loss.parameters())


def test_sizes_may_be_told_later():
    loss = CC(feat_dim=3)
    loss.bind((2, 2), (6,), None)
    assert loss(torch.randn(2, 2, 2), torch.randn(2, 6)).shape == (2,)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="constructor"):
        CC().bind((4,), None, None)
    with pytest.raises(ValueError, match="not bound"):
        CC()(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(1, 3\)"):
        CC(feat_dim=None)(torch.ones(1, 2), torch.ones(1, 3))
    for option in ({"feat_dim": 0}, {"pairs": "some"}):
        with pytest.raises(ValueError, match="CC: expected"):
            CC(**option)
