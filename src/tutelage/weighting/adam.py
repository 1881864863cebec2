"""Adam for what a weighting learns by itself, apart from the optimizer of the student."""

import torch
from torch import Tensor, nn

BETAS, EPS = (0.9, 0.999), 1e-8


class Adam(nn.Module):
    """The steps of Adam on one vector, with their memory as state.

    Args:
        size: Length of the vector.

    Reference:
        Kingma & Ba 2015, "Adam: a method for stochastic optimization", arXiv:1412.6980, algorithm 1; `decay` times the
        vector is added to the gradient.

    Example:
        >>> Adam(2)(torch.zeros(2), torch.tensor([3.0, -0.1]), rate=0.5, decay=0.0)
        tensor([-0.5000,  0.5000])
    """

    momentum: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, size: int = 0) -> None:
        super().__init__()
        self.register_buffer("momentum", torch.zeros(size))
        self.register_buffer("square", torch.zeros(size))
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def forward(self, value: Tensor, slope: Tensor, *, rate: float, decay: float) -> Tensor:
        """The vector after one step down the slope."""
        slope = slope + decay * value
        self.steps += 1
        self.momentum += (1 - BETAS[0]) * (slope - self.momentum)
        self.square += (1 - BETAS[1]) * (slope.square() - self.square)
        mean = self.momentum / (1 - BETAS[0] ** self.steps)
        size = self.square / (1 - BETAS[1] ** self.steps)
        return value - rate * mean / (size.sqrt() + EPS)
