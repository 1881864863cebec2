import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import l1


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    for b in range(2):
        off = [abs(x - y) for x, y in zip(s[b].flatten().tolist(), t[b].flatten().tolist(), strict=True)]
        assert_close(l1(s, t)[b], torch.tensor(sum(off) / 12))


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\).*\(1, 3, 8, 8\)"):
        l1(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 8, 8))
