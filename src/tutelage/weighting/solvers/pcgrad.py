"""PCGrad: gradients that conflict are projected onto each other's normal planes."""

import torch
from torch import Tensor

from .base import Solver


class PCGrad(Solver):
    """Take from each gradient what conflicts with another, one after the other in random order, and add them up.

    The direction is a sum, with weights of 1 or more: 1 each where no two gradients conflict. With two gradients it
    conflicts with neither; with three or more it may.

    Args:
        seed: Of the orders. The order of a step follows from the seed and its number, on every process alike.

    Reference:
        Yu et al. 2020, "Gradient surgery for multi-task learning", arXiv:2001.06782, algorithm 1. As in widely used
        code a gradient also meets itself, which counts where earlier projections have turned it around. Deviation: the
        1e-8 that such code adds to squared lengths is left out: with it a short gradient is not safe from a long one.

    Example:
        >>> PCGrad()(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]))
        tensor([1.5000, 1.5000], dtype=torch.float64)
    """

    step: Tensor

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def bind(self, objectives: int, own: int = 1) -> None:
        """Start counting steps anew."""
        self.step.zero_()

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights of 1 or more, float64 ``[K]``."""
        order = orders(len(gramian), self.seed, int(self.step))
        self.step += 1
        return surgery(gramian, order).sum(dim=0)


def orders(count: int, seed: int, step: int) -> Tensor:
    """For each of the gradients the order in which it meets all of them, int64 ``[K, K]``.

    Example:
        >>> orders(3, seed=0, step=5).sort(dim=1).values
        tensor([[0, 1, 2],
                [0, 1, 2],
                [0, 1, 2]])
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    return torch.rand(count, count, generator=generator).argsort(dim=1)


def surgery(gramian: Tensor, order: Tensor) -> Tensor:
    """Each gradient after its projections, as a mixture of all: ``mixtures @ gradients``, float64 ``[K, K]``.

    Args:
        gramian: Inner products, ``[K, K]``.
        order: Whom each meets, one after the other, int64 ``[K, N]``.

    Example:
        >>> surgery(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]), torch.tensor([[0, 1], [0, 1]]))
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]], dtype=torch.float64)
    """
    square = gramian.double()
    mixtures = torch.eye(len(square), dtype=torch.float64)
    for met in order.T:  # all gradients at once: none looks at what became of another
        product = (mixtures * square[met]).sum(dim=1)
        taken = product.clamp(max=0) / square.diagonal()[met].clamp(min=torch.finfo(square.dtype).tiny)
        mixtures.scatter_add_(1, met[:, None], -taken[:, None])
    return mixtures
