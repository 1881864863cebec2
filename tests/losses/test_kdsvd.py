import sys

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import kdsvd

svd = sys.modules["tutelage.losses.kdsvd"]


def maps(batch, *shapes):
    return [torch.randn(batch, *shape, dtype=torch.float64) for shape in shapes]


def principal(x, count):
    _, values, vectors = torch.linalg.svd(x.flatten(1).T)
    return vectors[:count], values[:count]


@pytest.mark.parametrize("rank", [1, 2])
def test_matches_the_equation_written_with_loops(rank):
    shapes = ((6, 3, 3), (7, 4, 4), (5, 2, 3))
    s, t = maps(2, *shapes), maps(2, *shapes)
    for b in range(2):
        ours, theirs = [], []
        for x, y in zip(s, t, strict=True):
            vectors, values = principal(y[b], rank)
            near, _ = principal(x[b], rank + 3)
            share = values / values.norm()
            for k in range(rank):
                v = vectors[k] * vectors[k][vectors[k].abs().argmax()].sign()
                cosines = [float(u @ v) for u in near]
                best = max(range(len(near)), key=lambda i: abs(cosines[i]))
                ours.append(near[best] * (1 if cosines[best] >= 0 else -1) * share[k])
                theirs.append(v * share[k])
        total = torch.zeros((), dtype=torch.float64)
        for layer in (1, 2):
            for k in range(rank):
                pairs = [(side[layer * rank + k], side[(layer - 1) * rank + k]) for side in (ours, theirs)]
                r = [(-((a[:, None] - c[None]) ** 2) / 8).exp() for a, c in pairs]
                total += ((r[0] - r[1]) ** 2).sum()
        assert_close(kdsvd(s, t, rank=rank)[b], total)


def test_signs_of_the_student_and_scale_of_both_do_not_matter():
    s, t = maps(2, (4, 3, 3), (5, 3, 3)), maps(2, (4, 3, 3), (5, 3, 3))
    assert_close(kdsvd([-3 * s[0], s[1]], [5 * x for x in t]), kdsvd(s, t))


@pytest.mark.parametrize("shape", [(4, 3, 3), (5, 2, 2)])
def test_the_gradient_is_that_of_the_decomposition(shape):
    x = torch.randn(2, shape[1] * shape[2], shape[0], dtype=torch.float64, requires_grad=True)
    wish = torch.randn(2, shape[0], min(x.shape[1:]), dtype=torch.float64)
    plain = torch.linalg.svd(x, full_matrices=False)
    expected = torch.autograd.grad(((plain.Vh.mT * wish) ** 2).sum(), x)[0]
    found = torch.autograd.grad(((svd._RightVectors.apply(x) * wish) ** 2).sum(), x)[0]
    assert_close(found, expected)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_singular_values_that_coincide_leave_the_gradient_finite(value):
    s = [torch.full((2, 4, 3, 3), value, requires_grad=True), torch.eye(9)[:5].view(1, 5, 3, 3).repeat(2, 1, 1, 1)]
    s[1].requires_grad_()
    loss = kdsvd(s, [torch.randn(2, 4, 3, 3), torch.randn(2, 5, 3, 3)])
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(x.grad.isfinite().all() for x in s)


def test_a_map_that_is_not_finite_gives_nan_to_its_sample_alone():
    s, t = maps(3, (4, 3, 3), (5, 3, 3)), maps(3, (4, 3, 3), (5, 3, 3))
    expected = kdsvd(s, t)
    s[0][1, 0, 0, 0] = torch.inf
    found = kdsvd(s, t)
    assert found[1].isnan()
    assert_close(found[[0, 2]], expected[[0, 2]])


def test_refuses_one_layer_other_widths_and_no_rank():
    x, wide = torch.ones(1, 2, 4, 4), torch.ones(1, 3, 4, 4)
    with pytest.raises(ValueError, match="at least 2 taps"):
        kdsvd([x], [x])
    with pytest.raises(ValueError, match="equal channels"):
        kdsvd([x, x], [x, wide])
    with pytest.raises(ValueError, match="rank >= 1, found 0"):
        kdsvd([x, x], [x, x], rank=0)
