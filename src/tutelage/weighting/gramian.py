"""Gramian: the gradients of several losses, one by one, and their inner products."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.graph import GradientEdge


def row_gradients(objectives: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """The gradient of each objective, one by one; the graph stays for what comes after.

    Args:
        objectives: K scalars; those without gradient count as constant.
        places: With respect to what: parameters, or one tap of the student. Those that an objective does not reach
            count as 0.

    Returns:
        One gradient a row, all places in one line, float32 (float64 if a place is) ``[K, P]``, without gradient.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> row_gradients([x.sum(), x[0] ** 2], [x])
        tensor([[1., 1.],
                [2., 0.]])
    """
    wide = torch.float64 if any(place.dtype == torch.float64 for place in places) else torch.float32
    size, sources = sum(place.numel() for place in places), tuple(_source(place) for place in places)
    rows = torch.zeros(len(objectives), size, dtype=wide, device=places[0].device)
    for row, objective in zip(rows, objectives, strict=True):
        if not objective.requires_grad:
            continue
        found = torch.autograd.grad(objective, sources, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
        start = 0
        for place, gradient in zip(places, found, strict=True):
            if gradient is not None:
                row[start : start + place.numel()] = gradient.flatten()
            start += place.numel()
    return rows


def _source(place: Tensor) -> Tensor | GradientEdge:
    """Where gradients pass: of a copy that was made for reading, what it was copied from."""
    copied = place.grad_fn is not None and place.grad_fn.name() == "CloneBackward0"
    return GradientEdge(*place.grad_fn.next_functions[0]) if copied else place  # type: ignore[union-attr]


def gramian(gradients: Tensor) -> Tensor:
    """Inner products of all pairs of gradients, for gradients of any size.

    Args:
        gradients: ``[K, P]``.

    Returns:
        float64 ``[K, K]``; rows and columns of gradients that are not finite are NaN. Equal gradients have equal rows
        and columns to the last digit, which a matrix product does not give on every processor: a solver may part what
        differs at all.

    Example:
        >>> gramian(2.0**100 * torch.tensor([[1.0, 0.0], [2.0, 1.0]])) / 4.0**100
        tensor([[1., 2.],
                [2., 5.]], dtype=torch.float64)
    """
    # Divided by their largest entries first: squares of float32 leave its range long before the numbers do.
    largest = gradients.abs().amax(dim=1)
    scaled = gradients / torch.where(largest > 0, largest, 1.0)[:, None]
    lost = ~largest.isfinite()
    scaled = torch.where(lost[:, None], 0.0, scaled)
    products = scaled @ scaled.T
    first = _first_alike(scaled, products)
    products = products[first][:, first]
    if products.device.type == "mps":  # has no float64
        products, largest, lost = products.cpu(), largest.cpu(), lost.cpu()
    products = products.double() * largest.double()[:, None] * largest.double()
    return torch.where(lost[:, None] | lost, torch.nan, products)


def _first_alike(gradients: Tensor, products: Tensor) -> list[int]:
    """For each gradient the first that is equal to it; only those whose products agree nearly are compared."""
    squares = products.diagonal()
    near = ((squares[:, None] - products).abs() <= 1e-4 * squares[:, None]).tolist()
    return [
        next(i for i in range(k + 1) if i == k or (near[i][k] and torch.equal(gradients[i], gradients[k])))
        for k in range(len(gradients))
    ]


def several_processes() -> bool:
    """Whether there are other processes to agree with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def shared_mean(x: Tensor) -> Tensor:
    """The mean over all processes; with one process, `x` itself."""
    if not several_processes():
        return x
    x = x.contiguous()
    dist.all_reduce(x)
    return x / dist.get_world_size()
