import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import kl, soft_cross_entropy


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(3, 4), torch.randn(3, 4)
    value = soft_cross_entropy(s, t, temperature=2.0)
    for b in range(3):
        p, q = (t[b] / 2).softmax(0), (s[b] / 2).softmax(0)
        assert_close(value[b], -4 * sum(p[c] * q[c].log() for c in range(4)))


def test_it_is_the_divergence_plus_the_teachers_entropy_with_the_same_gradient():
    s, t = torch.randn(3, 4, 2, requires_grad=True), torch.randn(3, 4, 2)
    entropy = torch.distributions.Categorical(logits=t.movedim(1, -1) / 4).entropy().mean(dim=1)
    assert_close(soft_cross_entropy(s, t), kl(s, t) + 16 * entropy)
    gradients = [torch.autograd.grad(loss(s, t).sum(), s)[0] for loss in (soft_cross_entropy, kl)]
    assert_close(*gradients)


def test_a_mask_leaves_positions_out():
    s, t, mask = torch.randn(2, 5, 4), torch.randn(2, 5, 4), torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0]])
    kept = torch.cat([x.movedim(1, -1)[mask.bool()] for x in (s, t)]).chunk(2)
    assert_close(soft_cross_entropy(s, t, mask=mask).mean(), soft_cross_entropy(*kept).mean())


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 4\)"):
        soft_cross_entropy(torch.ones(1, 3), torch.ones(1, 4))
    with pytest.raises(ValueError, match="temperature"):
        soft_cross_entropy(torch.ones(1, 3), torch.ones(1, 3), temperature=0)
