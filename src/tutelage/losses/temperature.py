"""How warm: a temperature for soft targets, from how sure the teacher is and how large the student."""

from collections.abc import Mapping

import torch
from torch import Tensor

TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0)
"""Where `softness` looks, and what `suggest` chooses from."""

LEAST, MOST = 0.3, 0.6
"""Softness aimed at: for a student that is very small beside its teacher, and for one as large."""


def softness(logits: Tensor) -> dict[float, float]:
    """Mean entropy of softened probabilities over that of equal ones, at each of `TEMPERATURES`.

    Args:
        logits: ``[N, C]``, or logarithms of probabilities, with C at least 2.

    Returns:
        Temperature -> from 0 (always sure) to 1 (all classes alike).

    Example:
        >>> {T: round(share, 2) for T, share in softness(torch.tensor([[9.0, 0.0, 0.0]])).items() if T in (1, 4, 20)}
        {1.0: 0.0, 4.0: 0.53, 20.0: 0.98}
    """
    found, logits = {}, logits.detach().float()
    for temperature in TEMPERATURES:
        log_prob = (logits / temperature).log_softmax(dim=1)
        entropy = -(log_prob.exp() * log_prob).sum(dim=1).mean()
        found[temperature] = float(entropy / torch.tensor(float(logits.shape[1])).log())
    return found


def suggest(soft: Mapping[float, float], *, capacity: float) -> float:
    """The temperature at which a teacher is as soft as suits a student of this size.

    A sure teacher has to be warmed more before its other classes say anything. A small student cannot follow all they
    say, so less is asked of it: the softness aimed at rises from 0.3 to 0.6 with the square root of `capacity`.

    Args:
        soft: From `softness`.
        capacity: Parameters of the student over those of the teacher, above 0; beyond 1 nothing changes.

    Returns:
        One of the temperatures in `soft`.

    Raises:
        ValueError: `capacity` is not above 0.

    Reference:
        A rule of thumb of our own, for `kl`, `dkd`, `nkd` and `soft_cross_entropy` without `standardise`. That very
        small students want less heat is an observation of Hinton, Vinyals & Dean 2015, arXiv:1503.02531, sec. 3.

    Example:
        >>> sure, unsure = (softness(torch.tensor([[x, 0.0, 0.0]])) for x in (12.0, 3.0))
        >>> suggest(sure, capacity=0.1), suggest(sure, capacity=1.0), suggest(unsure, capacity=0.1)
        (4.0, 6.0, 1.0)
    """
    if not capacity > 0:
        raise ValueError(f"expected a capacity above 0, found {capacity}.")
    aim = LEAST + (MOST - LEAST) * min(capacity, 1.0) ** 0.5
    return min(soft, key=lambda temperature: (abs(soft[temperature] - aim), temperature))
