"""The alias method: draw from any distribution over n outcomes in the time of two look-ups."""

from collections.abc import Sequence

import torch
from torch import Tensor


def alias_tables(weights: Tensor | Sequence[float]) -> tuple[Tensor, Tensor]:
    """For each outcome, the share of its draws that it keeps, and who has the rest.

    Args:
        weights: How often each outcome is to be drawn, relative to the others, ``[n]``: finite, 0 or more, not all 0.

    Returns:
        The kept shares, float64 ``[n]``, and the other outcomes, int64 ``[n]``. Where the share is 1 nobody is asked.

    Raises:
        ValueError: The weights are not such numbers.

    Reference:
        Walker 1977, ACM TOMS 3(3); the construction is Vose 1991, IEEE TSE 17(9).

    Example:
        >>> alias_tables([3.0, 1.0])
        (tensor([1.0000, 0.5000], dtype=torch.float64), tensor([0, 0]))
    """
    scaled = torch.as_tensor(weights, dtype=torch.float64).detach().cpu()
    if scaled.dim() != 1 or not len(scaled) or not bool((scaled >= 0).all()) or not 0 < float(scaled.sum()) < torch.inf:
        raise ValueError(f"expected weights [n], finite, 0 or more and not all 0; found {scaled.tolist()[:5]}.")
    shares = (scaled * (len(scaled) / scaled.sum())).tolist()
    other = [0] * len(shares)
    poor = [i for i, share in enumerate(shares) if share < 1]
    rich = [i for i, share in enumerate(shares) if share >= 1]
    while poor and rich:
        taker, giver = poor.pop(), rich.pop()
        other[taker] = giver
        shares[giver] -= 1 - shares[taker]
        (poor if shares[giver] < 1 else rich).append(giver)
    for rest in (*poor, *rich):  # 1 but for rounding
        shares[rest] = 1.0
    return torch.tensor(shares, dtype=torch.float64), torch.tensor(other)


def alias_draw(kept: Tensor, other: Tensor, count: int) -> Tensor:
    """Independent draws from tables of `alias_tables`, int64 ``[count]``, on their device.

    Example:
        >>> alias_draw(*alias_tables([0.0, 1.0]), 3)
        tensor([1, 1, 1])
    """
    first = torch.randint(len(kept), (count,), device=kept.device)
    stays = torch.rand(count, dtype=kept.dtype, device=kept.device) < kept[first]
    return torch.where(stays, first, other[first])
