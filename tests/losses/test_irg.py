import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import irg


def edges(x):
    d = torch.tensor([[float((a - b).square().sum()) for b in x] for a in x])
    return d / d.max()


def mean_off(a, b):
    return (a - b).square().mean()


def test_matches_the_equations_written_with_loops():
    student = [torch.randn(4, 6), torch.randn(4, 2, 3, 1)]
    teacher = [torch.randn(4, 6), torch.randn(4, 5)]
    got = irg(student, teacher, vertex_weight=2.0, edge_weight=3.0, transform_weight=5.0)
    ours, theirs = ([edges(x.flatten(1)) for x in side] for side in (student, teacher))
    for b in range(4):
        vertices = mean_off(student[0][b], teacher[0][b])  # of the second tap the widths differ
        rows = sum(mean_off(ours[k][b], theirs[k][b]) for k in range(2))
        change = mean_off(ours[0][b], ours[1][b]) - mean_off(theirs[0][b], theirs[1][b])
        assert_close(got[b], 2 * vertices + 3 * rows + 5 * change**2)


def test_features_of_one_shape_are_compared_across_layers_too():
    student, teacher = [torch.randn(3, 4) for _ in range(2)], [torch.randn(3, 4) for _ in range(2)]
    only = irg(student, teacher, vertex_weight=0, edge_weight=0)
    for b in range(3):
        values = [(mean_off(edges(x)[b], edges(y)[b]), mean_off(x[b], y[b])) for x, y in (student, teacher)]
        assert_close(only[b], sum((x - y) ** 2 for x, y in zip(*values, strict=True)))


def test_samples_that_all_coincide_have_no_edges():
    same = torch.ones(3, 4, requires_grad=True)
    value = irg(same, torch.randn(3, 5))
    value.sum().backward()
    assert value.isfinite().all()
    assert same.grad.isfinite().all()


def test_refuses_other_numbers_of_taps_and_negative_weights():
    with pytest.raises(ValueError, match="found 2 and 1"):
        irg([torch.ones(2, 3)] * 2, torch.ones(2, 3))
    with pytest.raises(ValueError, match="0 or more"):
        irg(torch.ones(2, 3), torch.ones(2, 3), edge_weight=-1.0)
    with pytest.raises(ValueError, match="one batch"):
        irg(torch.ones(2, 3), torch.ones(3, 3))
