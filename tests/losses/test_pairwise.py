import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import pairwise


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_matches_the_equation_written_with_loops(pool):
    s, t = torch.randn(2, 3, 6, 4).double(), torch.randn(2, 5, 6, 4).double()
    value = pairwise(s, t, scale=0.5, pool=pool)
    reduce = (lambda x: x.amax((1, 2))) if pool == "max" else (lambda x: x.mean((1, 2)))
    for b in range(2):
        places = [
            [reduce(x[b, :, 3 * i : 3 * i + 3, 2 * j : 2 * j + 2]) for i in (0, 1) for j in (0, 1)] for x in (s, t)
        ]
        expected = 0.0
        for i in range(4):
            for j in range(4):
                cosines = [torch.cosine_similarity(side[i], side[j], dim=0) for side in places]
                expected += (cosines[0] - cosines[1]) ** 2 / 16
        assert_close(value[b], expected, rtol=1e-6, atol=1e-9)


def test_patches_at_the_border_may_be_smaller():
    s = torch.randn(1, 3, 5, 5)
    assert_close(pairwise(s, 2 * s, scale=0.5), torch.zeros(1), rtol=0, atol=1e-6)  # 3 by 3 patches


def test_the_length_may_be_taken_for_a_constant():
    s, t = torch.randn(1, 3, 2, 2, requires_grad=True), torch.randn(1, 3, 2, 2)
    full, constant = (
        torch.autograd.grad(pairwise(s, t, scale=0.5, through_norm=through).sum(), s)[0] for through in (True, False)
    )
    along = (full * s.detach()).sum(dim=1)
    assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-6)  # a vector's length does not matter
    assert (constant * s.detach()).sum(dim=1).abs().max() > 1e-3


def test_turned_channels_are_the_same():
    s, t = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    turned = torch.einsum("bchw,cd->bdhw", s, turn)
    assert_close(pairwise(turned, t, scale=0.1), pairwise(s, t, scale=0.1), rtol=1e-4, atol=1e-6)


def test_names_both_shapes_when_grids_differ():
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\).*\(1, 2, 2, 2\).*Resize"):
        pairwise(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2))


@pytest.mark.parametrize("option", [{"scale": 0.0}, {"scale": 1.5}, {"pool": "min"}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(ValueError, match="scale in"):
        pairwise(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4), **option)
