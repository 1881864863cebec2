"""SRKD: match one statistic over the channels at each position."""

from typing import Literal

from torch import Tensor

from .maps import Features, levels, need_maps
from .precision import full

Statistic = Literal["mean_power", "power_mean", "max", "min"]


def channel_statistics(
    student: Features, teacher: Features, /, *, statistic: Statistic = "mean_power", power: int = 1
) -> Tensor:
    """Squared difference between maps of a statistic over the channels, mean over positions, summed over levels.

    Args:
        student: Feature maps, ``[B, C_s, H, W]``, of one level or several.
        teacher: Feature maps, ``[B, C_t, H, W]``, of as many: channels may differ, the grid may not.
        statistic: ``"mean_power"``: the mean over channels, to a power. ``"power_mean"``: the mean of the values to a
            power. ``"max"`` and ``"min"``: the largest and the smallest.
        power: At least 1; 1 makes both means the same.

    Returns:
        ``[B]``, at least 0, in units of the teacher to twice the power; 0 where the maps agree.

    Raises:
        ValueError: Grids or numbers of levels differ, or an option is out of range.

    Reference:
        Gao, Zhao, Li & Tong 2018, "Image Super-Resolution Using Knowledge Distillation", ACCV. No code was published,
        and the paper's formula of the four is not at hand: the statistics are those that later work names.

    Example:
        >>> import torch
        >>> here, there = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1), torch.tensor([2.0, 2.0, 5.0]).view(1, 3, 1, 1)
        >>> channel_statistics(here, there), channel_statistics(here, there, statistic="max")
        (tensor([1.]), tensor([4.]))
    """
    if statistic not in ("mean_power", "power_mean", "max", "min") or power < 1 or power != int(power):
        raise ValueError(
            "channel_statistics: expected statistic='mean_power', 'power_mean', 'max' or 'min' and a whole power >= 1, "
            f"found {statistic!r} and {power}."
        )

    def reduced(x: Tensor) -> Tensor:
        x = full(x)
        if statistic in ("max", "min"):
            return x.amax(dim=1) if statistic == "max" else x.amin(dim=1)
        return x.mean(dim=1).pow(power) if statistic == "mean_power" else x.pow(power).mean(dim=1)

    values = []
    for ours, theirs in levels("channel_statistics", student, teacher):
        need_maps("channel_statistics", ours, theirs, grid=True)
        values.append((reduced(ours) - reduced(theirs.detach())).square().flatten(1).mean(dim=1))
    return sum(values[1:], values[0])
