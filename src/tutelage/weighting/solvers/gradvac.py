"""GradVac: gradients are turned towards each other until they are as aligned as they usually are."""

import torch
from torch import Tensor

from tutelage.errors import InputError

from .base import Solver
from .pcgrad import orders


class GradVac(Solver):
    """Remember how aligned each pair of gradients usually is, and turn those that fall below towards each other.

    As PCGrad with a target that moves: the running mean of each pair's cosine in place of 0. The direction is a sum,
    with weights of 1 or more.

    Args:
        decay: Share of the newest cosine in the running mean, in [0, 1].
        seed: Of the orders in which gradients meet, as in `PCGrad`.

    Reference:
        Wang et al. 2021, "Gradient vaccine", arXiv:2010.05874, eq. 2 and 3. Deviations: the mean starts at 0 and is
        fast (0.5, as in widely used code; the paper has 0.01), and the whole gradient is one group.

    Example:
        >>> rule = GradVac()
        >>> rule.bind(2)
        >>> rule(torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
        tensor([1., 1.], dtype=torch.float64)
        >>> rule(torch.eye(2)).round(decimals=2)
        tensor([1.4400, 1.4400], dtype=torch.float64)
    """

    cosine: Tensor
    step: Tensor

    def __init__(self, *, decay: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise InputError(f"GradVac: expected decay in [0, 1]; found {decay}.")
        self.decay = decay
        self.seed = seed
        self.register_buffer("cosine", torch.zeros(0, 0))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def bind(self, objectives: int, own: int = 1) -> None:
        """Start with running means of 0."""
        self.cosine = torch.zeros(objectives, objectives, device=self.step.device)
        self.step.zero_()

    def forward(self, gramian: Tensor, losses: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Weights of 1 or more, float64 ``[K]``; the running means move."""
        count = len(gramian)
        if at is None and len(self.cosine) != count:
            self.bind(count)
        rows = torch.arange(count) if at is None else at.cpu()
        order = orders(count, self.seed, int(self.step))
        order = order[order != torch.arange(count)[:, None]].reshape(count, count - 1)
        self.step += 1
        target = self.cosine.cpu().double()
        mixtures, moved = vaccinated(gramian, order, target[rows][:, rows], decay=self.decay)
        target[rows[:, None], rows] = moved
        self.cosine.copy_(target)
        return mixtures.sum(dim=0)


def vaccinated(gramian: Tensor, order: Tensor, target: Tensor, *, decay: float) -> tuple[Tensor, Tensor]:
    """Each gradient turned towards those it meets, as a mixture of all, and the running means afterwards.

    Args:
        gramian: Inner products, ``[K, K]``.
        order: Whom each meets, one after the other, int64 ``[K, N]``.
        target: Cosines that are usual, ``[K, K]``.
        decay: Share of the newest cosine in the mean.

    Returns:
        ``mixtures`` with ``mixtures @ gradients``, and the new means; float64 ``[K, K]`` both.
    """
    square, mean = gramian.double(), target.double().clone()
    length = square.diagonal().clamp(min=0).sqrt()
    mixtures = torch.eye(len(square), dtype=torch.float64)
    for met in order.T:
        own = ((mixtures @ square) * mixtures).sum(dim=1).clamp(min=0).sqrt()
        cosine = (mixtures * square[met]).sum(dim=1) / (own * length[met] + 1e-8)
        cosine = cosine.clamp(-1, 1)
        usual = mean.gather(1, met[:, None])[:, 0]
        turn = own * (usual * (1 - cosine**2).sqrt() - cosine * (1 - usual**2).sqrt())
        turn = turn / (length[met] * (1 - usual**2).sqrt() + 1e-8)
        mixtures.scatter_add_(1, met[:, None], torch.where(cosine < usual, turn, 0.0)[:, None])
        mean.scatter_(1, met[:, None], ((1 - decay) * usual + decay * cosine)[:, None])
    return mixtures, mean
