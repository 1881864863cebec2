"""Random numbers that are a function of what they are for, not of what was drawn before.

A draw hashes a seed and a few counters (sample, view, epoch, …) with the mixing step of SplitMix64. There is
no state: the same counters give the same number on every machine, in every process and in any batch.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def draws(seed: int, *counters: Tensor | int) -> Tensor:
    """64 random bits for each combination of counters.

    Args:
        seed: Any integer; taken modulo 2**64.
        counters: What the draw is for: integers, or int64 tensors that broadcast. Their order matters.

    Returns:
        int64, shaped like the counters together; uniform over all 64-bit values.

    Reference:
        Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators": the 64-bit mixing,
        in the variant known as SplitMix64, chained over the counters.

    Example:
        >>> alone, batch = draws(0, torch.tensor([7])), draws(0, torch.tensor([3, 7]))
        >>> bool(alone[0] == batch[1])
        True
    """
    bits = _mix(torch.tensor((seed + (1 << 63)) % (1 << 64) - (1 << 63)))
    for counter in counters:
        bits = _mix(bits + _GOLDEN * (torch.as_tensor(counter, dtype=torch.int64) + 1))
    return bits


def uniform(seed: int, *counters: Tensor | int) -> Tensor:
    """A number in [0, 1) for each combination of counters, float64.

    Args:
        seed: As for `draws`.
        counters: As for `draws`.

    Returns:
        float64 in [0, 1), a multiple of 2**-53.
    """
    return _shift(draws(seed, *counters), 11).double() * 2.0**-53


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, by: int) -> Tensor:
    # torch shifts int64 with the sign; the mask makes it a shift of unsigned bits.
    return (bits >> by) & ((1 << (64 - by)) - 1)
