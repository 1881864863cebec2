import functools

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import dist
from tutelage.losses.batchwise import is_batchwise


def pearson(a, b):
    a, b = a - sum(a) / len(a), b - sum(b) / len(b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / (sum(a**2).sqrt() * sum(b**2).sqrt() + 1e-8)


def by_hand(student, teacher, temperature, inter_weight, intra_weight):
    p, q = ((x / temperature).softmax(1) for x in (student, teacher))
    inter = 1 - sum(pearson(p[b], q[b]) for b in range(len(p))) / len(p)
    intra = 1 - sum(pearson(p[:, c], q[:, c]) for c in range(p.shape[1])) / p.shape[1]
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(5, 4).double(), torch.randn(5, 4).double()
    value = dist(s, t, temperature=2.0, inter_weight=1.5, intra_weight=0.5)
    assert_close(value, by_hand(s, t, 2.0, 1.5, 0.5).expand(5))


def test_every_position_of_a_map_counts_as_a_sample():
    s, t = torch.randn(2, 4, 3, 5).double(), torch.randn(2, 4, 3, 5).double()
    flat = [torch.stack([x[b, :, i, j] for b in range(2) for i in range(3) for j in range(5)]) for x in (s, t)]
    assert_close(dist(s, t), dist(*flat)[:2])


def test_probabilities_that_are_scaled_and_shifted_within_samples_correlate_fully():
    q = torch.rand(4, 3).double().softmax(1)
    p = 0.3 * q + 0.7 / 3
    assert_close(dist(p.log(), q.log(), intra_weight=0.0), torch.zeros(4).double(), rtol=0, atol=1e-5)


def test_a_single_sample_has_no_correlation_over_the_batch():
    s = torch.randn(1, 4, requires_grad=True)
    value = dist(s, torch.randn(1, 4), inter_weight=0.0, intra_weight=2.0)
    value.sum().backward()
    assert_close(value.detach(), torch.tensor([2.0]))
    assert not s.grad.any()


def test_it_is_marked_as_one_number_for_the_batch_whatever_its_options():
    assert is_batchwise(dist)
    assert is_batchwise(functools.partial(functools.partial(dist, temperature=4.0), intra_weight=0.5))


@pytest.mark.parametrize("option", [{"temperature": 0.0}, {"inter_weight": -1.0}, {"intra_weight": -1.0}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="dist: expected"):
        dist(torch.ones(2, 3), torch.ones(2, 3), **option)
