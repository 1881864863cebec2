import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import hierarchical_context, mse


def pooled(x, side):
    """Averages of equal blocks, one by one."""
    size = x.shape[-1] // side
    out = torch.zeros(x.shape[0], side, side)
    for i in range(side):
        for j in range(side):
            out[:, i, j] = x[:, i * size : (i + 1) * size, j * size : (j + 1) * size].sum(dim=(1, 2)) / size**2
    return out


@pytest.mark.parametrize(("side", "grids"), [(8, (4, 2, 1)), (4, (2, 1)), (2, (1,)), (1, ())])
def test_matches_the_equation_written_with_loops(side, grids):
    s, t = torch.randn(2, 3, side, side), torch.randn(2, 3, side, side)
    for b in range(2):
        value, weights = ((s[b] - t[b]) ** 2).mean(), 1.0
        for k, grid in enumerate(grids):
            value += 0.5 ** (k + 1) * ((pooled(s[b], grid) - pooled(t[b], grid)) ** 2).mean()
            weights += 0.5 ** (k + 1)
        assert_close(hierarchical_context(s, t)[b], value / weights)


def test_levels_are_summed_and_vectors_are_maps_of_one_place():
    s, t = ([torch.randn(2, 3, 4, 4), torch.randn(2, 5)] for _ in range(2))
    assert_close(hierarchical_context(s, t), hierarchical_context(s[0], t[0]) + mse(s[1], t[1]))


def test_refuses_other_shapes_unpaired_levels_and_tokens():
    x = torch.ones(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\).*\(1, 2, 2, 2\).*Resize"):
        hierarchical_context(x, torch.ones(1, 2, 2, 2))
    with pytest.raises(ValueError, match="found 2 and 1"):
        hierarchical_context([x, x], [x])
    with pytest.raises(ValueError, match=r"found \(2, 4, 4\).*Tokens"):
        hierarchical_context(x[0], x[0])
