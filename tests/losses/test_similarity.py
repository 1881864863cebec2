import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import similarity


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(4, 3, 2, 2), torch.randn(4, 7)
    for b in range(4):
        rows = []
        for x in (s.flatten(1), t):
            row = torch.stack([x[b] @ x[other] for other in range(4)])
            rows.append(row / row.norm())
        assert_close(similarity(s, t)[b], sum((rows[0] - rows[1]) ** 2) / 4)


def test_a_rotated_feature_space_is_the_same():
    s, t = torch.randn(5, 6), torch.randn(5, 8)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    assert_close(similarity(s @ rotation, t), similarity(s, t))


def test_refuses_batches_of_different_size():
    with pytest.raises(ValueError, match="5 and 4"):
        similarity(torch.ones(5, 2), torch.ones(4, 2))
