"""TinyBERT and MiniLM: to what each token of a transformer attends."""

from typing import Literal

import torch
from torch import Tensor

from .maps import Features
from .precision import full
from .shapes import same_batch
from .tokens import affinities, over_rows, real_tokens, row_kl, split

UNSEEN = -100.0
"""Scores at or below this belong to tokens that the network itself hides."""


def self_attention(
    student: Features,
    teacher: Features,
    /,
    *,
    heads: int = 12,
    form: Literal["scores", "probabilities"] = "scores",
    mask: Tensor | None = None,
) -> Tensor:
    """How far apart the attention of two layers is, before or after its softmax.

    Networks seldom give their attention away (fused kernels never make it), but they do give queries and keys, from
    which it is computed here. What a network does to these on the way, such as a norm for each head, is not seen.

    Args:
        student: Queries and keys, two taps ``[B, T, D_s]``; or one tap ``[B, T, 3 * D_s]`` that gives queries, keys and
            values side by side (timm's ``attn.qkv``); or scores before the softmax, ``[B, heads, T, T]``.
        teacher: One of the three, with as many heads and tokens; the width may differ.
        heads: Attention heads of both networks; scores bring their own.
        form: ``"scores"``: mean squared difference before the softmax, in which what the network hides (-100 or
            less) counts as 0. ``"probabilities"``: KL of what each token attends to.
        mask: Which tokens are real, ``[B, T]``; all if None, or if it is one of pixels, ``[B, H, W]``.

    Returns:
        ``[B]``, at least 0: the mean over heads and pairs of real tokens, or over heads and real tokens; 0 where
        attention agrees.

    Raises:
        ValueError: Heads or tokens do not fit together, or an option is unknown.

    Reference:
        Jiao et al. 2020, "TinyBERT", arXiv:1909.10351, eq. 7 (scores; the zeros are its code's). Wang et al. 2020,
        "MiniLM", arXiv:2002.10957, sec. 3.1 (probabilities), which reads the last layer.

    Example:
        >>> queries, keys = torch.eye(2)[None], 2 * torch.eye(2)[None]
        >>> self_attention((queries, keys), (queries, queries), heads=1)
        tensor([0.2500])
        >>> self_attention((queries, keys), (keys, queries), heads=1, form="probabilities")
        tensor([0.])
    """
    if form not in ("scores", "probabilities"):
        raise ValueError(f"self_attention: expected form='scores' or 'probabilities', found {form!r}.")
    with torch.autocast((student if isinstance(student, Tensor) else student[0]).device.type, enabled=False):
        ours, theirs = _scores(student, heads), _scores(teacher, heads).detach()
        same_batch("self_attention", ours, theirs)
        if ours.shape != theirs.shape:
            raise ValueError(
                f"self_attention: expected as many heads and tokens on both sides, found {tuple(ours.shape[1:])} and "
                f"{tuple(theirs.shape[1:])}. token_relations takes networks of other heads."
            )
        real = real_tokens("self_attention", mask, ours.shape[3])
        if form == "probabilities":
            return row_kl(ours, theirs, real)
        squares = (_seen(ours) - _seen(theirs)).square()
        if real is None:
            return squares.flatten(1).mean(dim=1)
        counts = real.to(squares.dtype)
        columns = counts.sum(dim=1).clamp(min=1)
        return over_rows((squares * counts[:, None, None]).sum(dim=3) / columns[:, None, None], real)


def _scores(said: Features, heads: int) -> Tensor:
    """Attention before its softmax, ``[B, heads, T, T]``."""
    parts = (said,) if isinstance(said, Tensor) else tuple(said)
    if len(parts) == 1 and parts[0].dim() == 4:
        return full(parts[0])
    if len(parts) == 1 and parts[0].dim() == 3 and parts[0].shape[2] % 3 == 0:
        parts = parts[0].chunk(3, dim=2)[:2]
    if len(parts) != 2 or any(part.dim() != 3 for part in parts) or parts[0].shape != parts[1].shape:
        found = [tuple(part.shape) for part in parts]
        raise ValueError(
            f"self_attention: expected queries and keys [B, T, D], both in one as [B, T, 3 * D], or scores "
            f"[B, heads, T, T]; found {found}. Tap the layers that give queries and keys."
        )
    queries, keys = (split("self_attention", full(part), heads) for part in parts)
    return affinities(queries, keys)


def _seen(scores: Tensor) -> Tensor:
    return torch.where(scores > UNSEEN, scores, 0.0)
