"""AEKD: the teachers of a path weighed by the gradients they ask for."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Row, Spec, Tap

from .base import Weighting, by_path
from .gramian import gramian, row_gradients, shared_mean
from .solvers.capped import capped


class AEKD(Weighting):
    """Share each path among its teachers so that the gradient they agree on is the shortest there is.

    For each teacher of a path, the gradient of its row is taken where the path reads the student, and averaged over
    the batch; the shares are those of the shortest mixture in which no teacher has more than `limit`. They sum to 1
    over the teachers of a path. No forward or backward of a network is needed.

    Teachers whose gradient is short get the most: those that the student agrees with already. One that says next to
    nothing is favoured as well, and the task is not asked at all.

    A teacher whose gradient is not finite gets nothing, nor does one without gradient, as where `Guard` has shut its
    row. In evaluation, without gradients, and where no teacher has one, the newest shares are given. With several
    processes, gradients are averaged over all of them first.

    Args:
        limit: Largest share, above 0; 1 sets no limit, and a limit below one over the number of teachers makes their
            shares equal.
        normalise: Compare directions alone, and divide the shares by the lengths afterwards, so that the limit is
            that of directions.

    Raises:
        InputError: `limit` is not above 0.

    Reference:
        Du et al. 2020, "Agree to disagree: adaptive ensemble knowledge distillation in gradient space", eq. 7; `limit`
        is its C. Deviations: solved exactly, where the published code's tolerance makes weights of small gradients
        arbitrary; gradients on features are taken before the connectors, where all teachers have one space.

    Example:
        >>> import torch
        >>> from tutelage.ledger import Ledger, Lesson, Row, Spec
        >>> rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
        >>> gate = AEKD()
        >>> gate.bind(rows, Spec(call=None, taps={}, reads={"logits": ""}))
        >>> said = torch.zeros(1, 2, requires_grad=True)
        >>> losses = torch.stack([said.sum(1), said[:, 0], 3 * said[:, 1]])
        >>> gate(Ledger(rows, losses), Lesson(None, {"": said}, {}, {})).flatten()
        tensor([1.0000, 0.6000, 0.4000])
    """

    kind: ClassVar[Literal["scale", "gate"]] = "gate"
    shares: Tensor

    def __init__(self, *, limit: float = 0.6, normalise: bool = False) -> None:
        super().__init__()
        if not limit > 0 or math.isnan(limit):
            raise InputError(f"AEKD: expected limit above 0; found {limit}.")
        self.limit = limit
        self.normalise = normalise
        self.register_buffer("shares", torch.ones(0))
        self._reads: dict[str, Tap] = {}

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Start with equal shares."""
        super().bind(rows, spec)
        self._reads = dict(spec.reads)
        self.shares = torch.ones(len(rows), device=self.shares.device)
        for members in by_path(rows).values():
            self.shares[members] = 1 / len(members)

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The shares of this step, ``[K, 1]``, in [0, 1] and without gradient."""
        if self.training and torch.is_grad_enabled() and ledger.losses.requires_grad:
            for path, members in by_path(ledger.rows).items():
                if len(members) > 1 and path in self._reads:
                    self._share(members, ledger, lesson, self._reads[path])
        return self.shares[:, None].to(ledger.losses.dtype, copy=True)

    def _share(self, members: list[int], ledger: Ledger, lesson: Lesson, tap: Tap) -> None:
        """Share one path among its teachers."""
        places = [lesson.student[name] for name in ((tap,) if isinstance(tap, str) else tap)]
        if not all(place.requires_grad for place in places):
            return
        asked = row_gradients([ledger.row(k).mean() for k in members], places)
        # Positions may differ from place to place, samples do not: the mean over the batch of each.
        parts = torch.split(asked, [place.numel() for place in places], dim=1)
        means = [
            part.reshape(len(members), len(place), -1).mean(dim=1) for part, place in zip(parts, places, strict=True)
        ]
        products = gramian(shared_mean(torch.cat(means, dim=1))).cpu()
        heard = products.diagonal() > 0  # not where it is not finite
        if heard.any():
            shares = torch.zeros(len(members), dtype=torch.float64)
            shares[heard] = capped(products[heard][:, heard], limit=self.limit, normalise=self.normalise)
            self.shares[members] = shares.to(self.shares)
