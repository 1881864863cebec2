import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import affinity


def test_over_positions_it_matches_the_equation_written_with_loops():
    s, t = torch.randn(2, 3, 2, 3), torch.randn(2, 5, 2, 3)
    for b in range(2):
        total = 0.0
        for i in range(6):
            for j in range(6):
                cosines = [torch.cosine_similarity(x[b].flatten(1)[:, i], x[b].flatten(1)[:, j], dim=0) for x in (s, t)]
                total += (cosines[0] - cosines[1]).abs()
        assert_close(affinity(s, t)[b], total / 36)


def test_over_channels_it_compares_maps():
    s, t = torch.randn(2, 3, 2, 3), torch.randn(2, 3, 4, 4)
    for b in range(2):
        total = 0.0
        for i in range(3):
            for j in range(3):
                cosines = [torch.cosine_similarity(x[b, i].flatten(), x[b, j].flatten(), dim=0) for x in (s, t)]
                total += (cosines[0] - cosines[1]).abs()
        assert_close(affinity(s, t, over="channels")[b], total / 9)


def test_it_sees_neither_lengths_nor_turned_channels():
    s = torch.randn(2, 4, 3, 3)
    turn = torch.linalg.qr(torch.randn(4, 4))[0]
    turned = torch.einsum("dc,bchw->bdhw", turn, s) * torch.rand(2, 1, 3, 3)
    assert_close(affinity(s, turned), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("over", ["positions", "channels", "samples"])
def test_levels_are_summed(over):
    s, t = torch.randn(2, 2, 3, 4, 4).unbind(), torch.randn(2, 2, 3, 4, 4).unbind()
    assert_close(affinity(s, t, over=over), affinity(s[0], t[0], over=over) + affinity(s[1], t[1], over=over))


def test_refuses_other_grids_other_widths_and_unknown_words():
    with pytest.raises(ValueError, match="one grid"):
        affinity(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2))
    with pytest.raises(ValueError, match="equal channels"):
        affinity(torch.ones(1, 2, 4, 4), torch.ones(1, 3, 4, 4), over="channels")
    with pytest.raises(ValueError, match="found 'pixels'"):
        affinity(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4), over="pixels")
