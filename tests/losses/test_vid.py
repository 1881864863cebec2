import math

import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import VID


def test_matches_the_equation_written_with_loops():
    loss, s, t = VID(student=(3, 2, 2), teacher=(4, 2, 2)), torch.randn(2, 3, 2, 2), torch.randn(2, 4, 2, 2)
    loss.raw_variance.data.copy_(torch.tensor([-2.0, 0.0, 1.0, 30.0]))
    first, second, third = (part.weight[:, :, 0, 0] for part in loss.regressor[::2])
    for b in range(2):
        total = 0.0
        for i in range(2):
            for j in range(2):
                mean = third @ (second @ (first @ s[b, :, i, j]).relu()).relu()
                for c in range(4):
                    raw = loss.raw_variance[c].item()
                    variance = (raw if raw > 20 else math.log1p(math.exp(raw))) + 1e-5
                    total += ((t[b, c, i, j] - mean[c]) ** 2 / variance + math.log(variance)) / 2
        assert_close(loss(s, t)[b], total / 16)


def test_the_best_variance_is_the_mean_squared_error_of_a_channel():
    loss, s, t = VID(student=(3, 4, 4), teacher=(2, 4, 4)), torch.randn(64, 3, 4, 4), torch.randn(64, 2, 4, 4)
    errors = (loss.regressor(s) - 3 * t).square().mean(dim=(0, 2, 3)).detach()
    loss.raw_variance.data.copy_((errors - loss.eps).expm1().log())
    loss(s, 3 * t).mean().backward()
    assert_close(loss.raw_variance.grad, torch.zeros(2), atol=1e-5, rtol=0)


def test_vectors_are_maps_of_one_place_and_larger_maps_are_averaged():
    loss, s, t = VID(student=(3,), teacher=(4,)), torch.randn(2, 3), torch.randn(2, 4)
    assert_close(loss(s, t), loss(s[:, :, None, None].expand(-1, -1, 2, 2), t[:, :, None, None].expand(-1, -1, 4, 4)))


def test_it_is_sized_by_bind_once():
    loss = VID(init_variance=2.0)
    loss.bind((3, 4, 4), (5, 4, 4), None)
    before = loss.regressor
    loss.bind((7, 4, 4), (5, 4, 4), None)
    assert loss.regressor is before
    assert_close(loss.variance, torch.full((5,), 2.0))


def test_refuses_to_work_unbound_unknown_shapes_and_options_out_of_range():
    with pytest.raises(ValueError, match="not bound"):
        VID()(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"shapes of student and teacher; found \(3,\) and None"):
        VID().bind((3,), None, None)
    with pytest.raises(ValueError, match="eps < init_variance"):
        VID(init_variance=0.0)
