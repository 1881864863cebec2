"""MiniLM: which tokens of a sample resemble which, as probabilities."""

import torch
from torch import Tensor

from .maps import Features, levels
from .shapes import same_batch
from .tokens import affinities, as_tokens, real_tokens, row_kl, split

MOST = 12
"""So many relation heads where none were named, at most."""


def token_relations(
    student: Features, teacher: Features, /, *, heads: int | None = None, mask: Tensor | None = None
) -> Tensor:
    """KL between how the tokens of a sample resemble each other, head by head.

    The states of a tap, of whatever width, are divided among relation heads; in each, the softmax of the scaled
    products of a token with all tokens is its relation. Several taps, such as the queries, keys and values of an
    attention layer, count one by one. Where one module gives all three side by side (timm's ``attn.qkv``), three
    times as many heads do the same.

    Args:
        student: Tokens ``[B, T, D_s]`` or maps ``[B, C_s, H, W]`` of one tap, or of several. Maps larger than 16 x 16
            are averaged down to that.
        teacher: As many, with as many tokens; widths may differ.
        heads: Relation heads, a divisor of both widths; None: the largest such number up to 12.
        mask: Which tokens are real, ``[B, T]``; all if None, or if it is one of pixels, ``[B, H, W]``.

    Returns:
        ``[B]``, at least 0: the mean over heads and real tokens, summed over taps; 0 where all relations agree.

    Raises:
        ValueError: Numbers of taps or tokens differ, `heads` divides no width, or the mask has another shape.

    Reference:
        Wang, Bao, Huang, Dong & Wei 2021, "MiniLMv2", arXiv:2012.15828, sec. 3, with weights of 1; before it Wang et
        al. 2020, "MiniLM", arXiv:2002.10957, sec. 3.2, whose value relations are those of one tap. MiniLMv2 has 48 or
        64 heads and reads an upper layer of its teacher, not the last. Maps as tokens are ours.

    Example:
        >>> states = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> token_relations(states, torch.cat([states, states], dim=2), heads=1)
        tensor([0.0088])
        >>> token_relations(states, states.flip(2), heads=1)
        tensor([0.])
    """
    value: Tensor | None = None
    for ours, theirs in levels("token_relations", student, teacher):
        same_batch("token_relations", ours, theirs)
        one, other = as_tokens("token_relations", ours), as_tokens("token_relations", theirs.detach())
        if one.shape[1] != other.shape[1]:
            raise ValueError(
                f"token_relations: expected as many tokens on both sides, found {one.shape[1]} and {other.shape[1]}. "
                "Put `connectors.Tokens` or `Resize` in this path."
            )
        shared = (n for n in range(1, MOST + 1) if one.shape[2] % n == other.shape[2] % n == 0)
        divide = max(shared) if heads is None else heads
        with torch.autocast(ours.device.type, enabled=False):  # a matrix product would drop to half precision
            near, far = (affinities(x, x) for x in (split("token_relations", y, divide) for y in (one, other)))
            apart = row_kl(near, far, real_tokens("token_relations", mask, one.shape[1]))
        value = apart if value is None else value + apart
    assert value is not None, "levels gives at least one"
    return value
