import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import channel_statistics

OF = {
    "mean_power": lambda v, p: (sum(v) / len(v)) ** p,
    "power_mean": lambda v, p: sum(x**p for x in v) / len(v),
    "max": lambda v, p: max(v),
    "min": lambda v, p: min(v),
}


@pytest.mark.parametrize("statistic", OF)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_matches_the_equation_written_with_loops(statistic, power):
    s, t = torch.randn(2, 3, 2, 2), torch.randn(2, 5, 2, 2)
    for b in range(2):
        total = 0.0
        for i in range(2):
            for j in range(2):
                here, there = (OF[statistic](x[b, :, i, j].tolist(), power) for x in (s, t))
                total += (here - there) ** 2 / 4
        assert_close(channel_statistics(s, t, statistic=statistic, power=power)[b], torch.tensor(total))


def test_levels_are_summed():
    s, t = torch.randn(2, 2, 3, 4, 4).unbind(), torch.randn(2, 2, 5, 4, 4).unbind()
    assert_close(channel_statistics(s, t), channel_statistics(s[0], t[0]) + channel_statistics(s[1], t[1]))


def test_refuses_other_grids_and_options_out_of_range():
    x = torch.ones(1, 2, 4, 4)
    with pytest.raises(ValueError, match="one grid"):
        channel_statistics(x, torch.ones(1, 2, 2, 2))
    for options in ({"statistic": "median"}, {"power": 0}, {"power": 1.5}):
        with pytest.raises(ValueError, match="whole power"):
            channel_statistics(x, x, **options)
