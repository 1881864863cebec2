"""Instance relationship graph: samples as vertices, their distances as edges, and how both change between layers."""

from itertools import pairwise

import torch
from torch import Tensor

from .gram import gram, squared_distances
from .maps import Features, levels
from .precision import full
from .shapes import same_batch


def irg(
    student: Features,
    teacher: Features,
    /,
    *,
    vertex_weight: float = 1.0,
    edge_weight: float = 1.0,
    transform_weight: float = 1.0,
) -> Tensor:
    """Squared differences of the graphs a batch forms, and of how the graphs change from tap to tap.

    Vertices are the samples' features, compared where student and teacher have one shape. Edges are squared distances
    of all pairs, divided by the largest. Between two neighbouring taps the *transformation* of a sample is the mean
    squared change of its edges, and of its features where all four shapes agree.

    Args:
        student: Features, ``[B, ...]``, of one tap or of several from shallow to deep.
        teacher: As many: width and grid may differ from the student's.
        vertex_weight: Weight of the vertices, 0 or more.
        edge_weight: Weight of the edges, 0 or more.
        transform_weight: Weight of the transformations, 0 or more.

    Returns:
        ``[B]``, at least 0: summed over taps, and the mean over each anchor's row of edges; 0 where the two agree.

    Raises:
        ValueError: The batches or the numbers of taps differ, or a weight is negative.

    Reference:
        Liu, Cao, Li, Yuan, Hu, Li & Duan 2019, "Knowledge Distillation via Instance Relationship Graph", CVPR, in the
        form of SemCKD's code, where all weights are 1 and the whole has 0.005 beside soft targets. Deviation: a
        transformation is compared sample by sample, where the code compares its mean over the batch.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [2.0]])
        >>> irg(line, torch.cat([9 * line, line], dim=1)), irg(line, line[[0, 2, 1]], vertex_weight=0)
        (tensor([0., 0., 0.]), tensor([0.3750, 0.1875, 0.1875]))
    """
    if not min(vertex_weight, edge_weight, transform_weight) >= 0:
        raise ValueError(
            f"irg: expected weights of 0 or more, found {vertex_weight}, {edge_weight} and {transform_weight}."
        )
    both = levels("irg", student, teacher)
    for ours, theirs in both:
        same_batch("irg", ours, theirs)
    taps = [(full(ours).flatten(1), full(theirs.detach()).flatten(1)) for ours, theirs in both]
    edges = [(_edges(ours), _edges(theirs)) for ours, theirs in taps]
    value = torch.zeros_like(taps[0][0][:, 0])
    for (ours, theirs), (near, far) in zip(taps, edges, strict=True):
        if ours.shape == theirs.shape:
            value = value + vertex_weight * _off(ours, theirs)
        value = value + edge_weight * _off(near, far)
    for before, after in (*pairwise(edges), *((a, b) for a, b in pairwise(taps) if _alike(*a, *b))):
        changes = [_off(x, y) for x, y in zip(before, after, strict=True)]
        value = value + transform_weight * (changes[0] - changes[1]).square()
    return value


def _off(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=1)


def _alike(*features: Tensor) -> bool:
    return len({x.shape for x in features}) == 1


def _edges(x: Tensor) -> Tensor:
    """Squared distances of all pairs over the largest, ``[B, B]``; 0 where all samples coincide."""
    apart = squared_distances(gram(x)).clamp(min=0)
    apart = apart.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0)
    largest = apart.amax()
    return (apart / torch.where(largest > 1e-12, largest, 1.0)).to(x.dtype)
