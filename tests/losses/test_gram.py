import torch
from torch.testing import assert_close

from tutelage.losses.gram import gram, squared_distances


def test_distances_are_those_of_the_differences():
    x = torch.randn(5, 2, 3)
    expected = [[(a - b).double().square().sum() for b in x] for a in x]
    assert_close(squared_distances(gram(x)), torch.tensor(expected).double(), rtol=1e-6, atol=1e-12)


def test_autocast_and_half_inputs_keep_the_digits():
    x = torch.randn(4, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert gram(x).dtype == torch.float64
        assert_close(gram(x), gram(x.double()))
