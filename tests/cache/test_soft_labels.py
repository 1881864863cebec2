import pytest
import torch
from torch.testing import assert_close

from tutelage.cache.soft_labels import keep_top, recover
from tutelage.errors import CacheError


@pytest.mark.parametrize("rest", ["spread", "renormalise"])
def test_what_comes_back_is_a_distribution_in_the_order_of_the_kept(rest):
    logits = 3 * torch.randn(5, 7)
    classes, probs = keep_top(logits, 3)
    label = recover(classes, probs, num_classes=7, rest=rest)
    assert_close(label.sum(1), torch.ones(5))
    assert torch.equal(label.topk(3, dim=1).indices, classes)


def test_all_classes_kept_are_the_teachers_own_probabilities():
    logits = torch.randn(4, 5)
    assert_close(recover(*keep_top(logits, 5), num_classes=5), logits.softmax(1))


@pytest.mark.parametrize("k", [0, 6])
def test_refuses_to_keep_more_classes_than_there_are(k):
    with pytest.raises(CacheError, match="1 to 5"):
        keep_top(torch.randn(2, 5), k)


def test_refuses_classes_that_do_not_exist():
    with pytest.raises(CacheError, match="from 0 to 2"):
        recover(torch.tensor([[3]]), torch.tensor([[1.0]]), num_classes=3)
