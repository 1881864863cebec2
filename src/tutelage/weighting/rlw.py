"""Random loss weighting: the control that every rule should beat."""

import torch
import torch.distributed as dist
from torch import Tensor

from tutelage.ledger import Ledger, Lesson, Probe, Row, Spec

from .base import Weighting, silence


class RLW(Weighting):
    """Weigh the rows at random, anew at each step.

    The weights of K rows are the softmax of K normal draws; they sum to 1. This judges nothing: a rule that does not
    do better than this one learns nothing from what it looks at. In evaluation each weight is ``1 / K``, their mean.
    The draws are a function of a seed and of the step alone: a run that is resumed goes on with them, and several
    processes weigh alike.

    Args:
        seed: Of the draws; None draws one when the rule is bound, and several processes take that of the first.
        base: Weigh the task's own rows, too, as the paper does; their weight is then not 1.

    Reference:
        Lin et al. 2022, "Reasonable effectiveness of random weighting", arXiv:2111.10603. Deviation: the task
        keeps weight 1, and the weights of the other rows sum to 1, unless `base`.

    Example:
        >>> rows = (Row("base"), Row("logits", "big"), Row("layer3", "big"))
        >>> rule = RLW(seed=0)
        >>> rule.bind(rows, Spec(call=None, taps={}))
        >>> weights = rule(Ledger(rows, torch.ones(3, 1)), None).flatten()
        >>> weights[0], weights[1:].sum()
        (tensor(1.), tensor(1.))
    """

    def __init__(self, *, seed: int | None = None, base: bool = False) -> None:
        super().__init__()
        self.seed = seed
        self.base = base
        self._weighed: list[int] = []
        self._drawn_from = 0 if seed is None else seed
        self._step = 0
        self._agreed = seed is not None

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Start at the first step."""
        super().bind(rows, spec)
        self._weighed = [k for k, row in enumerate(rows) if self.base or row.teacher is not None]
        self._drawn_from = int(torch.randint(2**31, ())) if self.seed is None else self.seed
        self._step, self._agreed = 0, self.seed is not None

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights of this step, ``[K, B]``, without gradient."""
        draws = self._draw(ledger.losses.device) if self.training else torch.zeros(len(self._weighed))
        weights = ledger.losses.new_ones(len(ledger.rows))
        weights[self._weighed] = draws.softmax(dim=0).to(weights)
        return silence(weights[:, None], ledger)

    def after_step(self, probe: Probe | None = None) -> None:
        """Count the step."""
        self._step += 1

    def get_extra_state(self) -> Tensor:
        """Seed and step. Not a buffer: reading one on a GPU would make it wait."""
        return torch.tensor([self._drawn_from, self._step])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a seed and a step."""
        self._drawn_from, self._step = state.tolist()
        self._agreed = True

    def _draw(self, device: torch.device) -> Tensor:
        if not self._agreed and dist.is_available() and dist.is_initialized():
            seed = torch.tensor(self._drawn_from, device=device)
            dist.broadcast(seed, 0)
            self._drawn_from = int(seed)
        self._agreed = True
        generator = torch.Generator().manual_seed(self._drawn_from * 1_000_003 + self._step)
        return torch.randn(len(self._weighed), generator=generator)
