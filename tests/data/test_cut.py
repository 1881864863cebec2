import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from tutelage.data import open_data
from tutelage.data.cut import stratified
from tutelage.errors import DataError


def numbered(labels: list[int]) -> TensorDataset:
    """A data set in which the picture of each sample is its number."""
    numbers = torch.arange(len(labels), dtype=torch.uint8)
    return TensorDataset(numbers[:, None, None, None].expand(-1, 1, 2, 2), torch.tensor(labels))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 30), min_size=2, max_size=5),
    unlabelled=st.integers(0, 10),
    shares=st.tuples(*[st.sampled_from([0.0, 0.05, 0.1, 0.3])] * 3),
    seed=st.integers(0, 2**64),
)
def test_the_slices_never_share_a_sample_and_lose_none(sizes, unlabelled, shares, seed):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)] + [-1] * unlabelled
    selection, guard, test = shares
    splits = open_data(numbered(labels), selection=selection, guard=guard, test=test, seed=seed)
    seen = []
    for part in (splits.train, splits.selection, splits.guard, splits.test):
        pictures = part.gather(torch.arange(len(part)))[:, 0, 0, 0].tolist()
        assert pictures == part.index.tolist()
        assert part.labels.tolist() == [labels[number] for number in pictures]
        seen += pictures
    assert sorted(seen) == list(range(len(labels)))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 50), min_size=1, max_size=6),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 1000),
)
def test_each_class_is_drawn_in_proportion(sizes, share, seed):
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    drawn, left = stratified(labels, share, "abcdef", seed=seed, what="test")
    counts = labels[drawn].bincount(minlength=len(sizes)).tolist()
    assert sorted([*drawn.tolist(), *left.tolist()]) == list(range(len(labels)))
    for count, size in zip(counts, sizes, strict=True):
        assert 1 <= count <= size - 1
        assert count in (1, size - 1) or abs(count - share * size) < 2


def test_small_classes_that_are_owed_a_sample_draw_no_others_along():
    labels = torch.tensor([0, 0, 1, 1, 2, 2] + [3] * 18)
    drawn, _ = stratified(labels, 0.03125, "abcd", seed=0, what="test")
    assert labels[drawn].bincount().tolist() == [1, 1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=2, max_size=6), share=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_as_many_are_drawn_as_were_asked_for_whatever_the_sizes(sizes, share, seed):
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    amount = max(len(sizes), int(share * len(labels)))
    drawn, _ = stratified(labels, amount, "abcdef", seed=seed, what="limit", leave=0)
    assert len(drawn) == amount
    assert labels[drawn].unique().tolist() == list(range(len(sizes)))


def test_the_number_asked_for_is_the_number_drawn():
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    drawn, _ = stratified(labels, 33, "abc", seed=0, what="limit", leave=0)
    assert labels[drawn].bincount().tolist() == [23, 7, 3]


def test_a_larger_limit_keeps_the_samples_of_a_smaller_one():
    labels = torch.arange(100) % 4
    small, large = (set(stratified(labels, n, "abcd", seed=3, what="limit", leave=0)[0].tolist()) for n in (20, 40))
    assert small < large


def test_another_seed_draws_others_and_the_same_seed_the_same():
    labels = torch.arange(200) % 2
    first, again, other = (stratified(labels, 0.2, "ab", seed=seed, what="test")[0].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_a_class_with_one_sample_is_named():
    with pytest.raises(DataError, match=r"found 1 of class 'b'"):
        stratified(torch.tensor([0, 0, 0, 1]), 0.3, ("a", "b"), seed=0, what="test")


def test_fewer_samples_than_classes_are_refused():
    with pytest.raises(DataError, match=r"3 for limit; found 2"):
        stratified(torch.arange(9) % 3, 2, "abc", seed=0, what="limit", leave=0)
