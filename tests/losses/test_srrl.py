import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.losses import srrl


def test_matches_the_equation_written_with_loops():
    s, t, head = torch.randn(3, 4, 2, 5), torch.randn(3, 4, 3, 3), nn.Linear(4, 6)
    value = srrl(s, t, head=head, feature_weight=0.5, regression_weight=2.0)
    for b in range(3):
        own, others = (torch.stack([x[b, c].mean() for c in range(4)]) for x in (s, t))
        feature = sum((own[c] - others[c]) ** 2 for c in range(4)) / 4
        logits = [head.weight @ x + head.bias for x in (own, others)]
        assert_close(value[b], 0.5 * feature + 2.0 * sum((logits[0] - logits[1]) ** 2) / 6)


def test_maps_tokens_and_vectors_are_read_alike():
    maps, t, head = torch.randn(2, 4, 3, 3), torch.randn(2, 4), nn.Linear(4, 6)
    expected = srrl(maps, t, head=head)
    assert_close(srrl(maps.flatten(2).mT, t, head=head), expected)
    assert_close(srrl(maps.mean((2, 3)), t, head=head), expected)


def test_the_classifier_is_used_and_not_trained():
    s, head = torch.randn(2, 4, requires_grad=True), nn.Linear(4, 6)
    srrl(s, torch.randn(2, 4), head=head, feature_weight=0.0).sum().backward()
    assert s.grad.any()
    assert head.weight.grad is None


def test_a_classifier_in_half_precision_is_read_in_full():
    s, t, head = torch.randn(2, 4), torch.randn(2, 4), nn.Linear(4, 6).bfloat16()
    wide = nn.Linear(4, 6)
    wide.load_state_dict(head.state_dict())
    assert_close(srrl(s, t, head=head), srrl(s, t, head=wide))
    assert head.weight.dtype == torch.bfloat16


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"wide.*5.*found 4"):
        srrl(torch.ones(1, 4), torch.ones(1, 5), head=nn.Linear(5, 2))
    with pytest.raises(ValueError, match="weights of 0 or more"):
        srrl(torch.ones(1, 4), torch.ones(1, 4), head=nn.Linear(4, 2), feature_weight=-1.0)
