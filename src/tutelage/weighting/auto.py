"""The default: nothing to tune."""

from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, by_path
from .calibrate import Calibrate
from .gramian import shared_mean
from .guard import Guard
from .product import Product
from .trust import Trust
from .warmup import Warmup

TOLD = 0.5
"""Paths on features that are held to less of their size than this are named, once."""


class Auto(Product):
    """Calibrated paths, features eased in, teachers trusted sample by sample.

    Assumes that what a teacher answers is worth more than the labels alone (four times as much: a fully calibrated
    weight of 1 distilled less well, see the lab notes): paths on the student's output together weigh `response` times
    the task's loss, all other paths together `feature` times, which is the task's to say (`Task.features`).

    The latter fade in, since untrained connectors have little to say; the former are in comparable units already, so
    that their scale is changed fourfold at most, and is the same for all teachers of a path: a teacher that says next
    to nothing is not blown up. For each sample the teachers of a path share its weight in proportion to what they give
    to the label, and one that knows less than the student is hardly heard. Where samples are held out, rows that harm
    the task there are shut (`Guard`); what a path had that is shut altogether goes to the others of its kind, as if it
    had never been named.

    How large a loss is does not say how hard it pulls. So the guard's looks also compare gradients where paths on
    features read the student: all together, they may pull `reach` times as hard across the task's direction as task and
    answers pull along theirs, and are held to that.

    Args:
        response: Size of all paths on the student's output relative to the task's loss, 0 or more.
        feature: Size of all other paths together, 0 or more; None for what the task says.
        reach: How hard paths on features may pull across the direction of the task, above 0; infinity for any.
        warmup: Optimizer steps over which the other paths fade in.
        share: How the teachers of a path share its weight: ``"trust"`` sample by sample; ``"pixel"`` the same at each
            pixel where a path allows it (see `Trust`); ``"equal"`` all alike, the control for it; ``"whole"`` each has
            all of it, for a gate of yours that shares it.
        guard: Whether rows are watched on held-out samples, where there are any.

    Example:
        >>> rows = (Row("base"), Row("logits", "big"), Row("layer3", "big"))
        >>> rule = Auto()
        >>> rule.bind(rows, Spec(call=None, taps={}, responses=frozenset({"logits"})))
        >>> [type(part).__name__ for part in rule.parts], rule.scales[0].target
        (['Calibrate', 'Warmup', 'Trust'], {'logits': 4.0, 'layer3': 0.5})
    """

    regained: Tensor
    pull: Tensor
    held: Tensor
    lowest: Tensor

    def __init__(
        self,
        *,
        response: float = 4.0,
        feature: float | None = None,
        reach: float = 3.0,
        warmup: int = 100,
        share: Literal["trust", "pixel", "equal", "whole"] = "trust",
        guard: bool = True,
    ) -> None:
        super().__init__()
        if share not in ("trust", "pixel", "equal", "whole"):
            raise InputError(f"Auto: expected share='trust', 'pixel', 'equal' or 'whole'; found {share!r}.")
        if not reach > 0:
            raise InputError(f"Auto: expected reach above 0, found {reach}.")
        self.register_buffer("regained", torch.ones(0))
        self.register_buffer("pull", torch.zeros(0))
        self.register_buffer("held", torch.ones(0))
        self.register_buffer("lowest", torch.ones(()))
        self._news: list[str] = []
        self._kinds: list[list[list[int]]] = []
        self.share = share
        self.response = response
        self.feature = feature
        self.reach = reach
        self.warmup = warmup
        self.guard = guard

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Share `response` and `feature` among the paths there are."""
        paths = by_path(rows)
        responses = [path for path in paths if path in spec.responses]
        features = [path for path in paths if path not in responses]
        target = {path: self.response / len(responses) for path in responses}
        feature = spec.features if self.feature is None else self.feature
        target |= {path: feature / len(features) for path in features}
        limit = dict.fromkeys(responses, 4.0)
        self.scales = nn.ModuleList([Calibrate(target, limit=limit, mean=self.share == "equal", joint=responses)])
        gates: list[Weighting] = [Warmup(self.warmup, paths=features)]
        if self.share in ("trust", "pixel"):
            gates.append(Trust(shares="likelihood", absolute=True, per="pixel" if self.share == "pixel" else "sample"))
        if self.guard and spec.held_out and spec.labelled:
            gates.append(Guard())
        self.gates = nn.ModuleList(gates)
        self._kinds = [[paths[path] for path in kind] for kind in (responses, features)]
        self.regained = torch.ones(len(rows), device=self.regained.device)
        self.pull = torch.full((len(rows),), torch.inf, device=self.pull.device)  # not finite: nothing was seen
        self.held, self.lowest = torch.ones_like(self.regained), torch.ones_like(self.lowest)
        super().bind(rows, spec)

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The product of scale and gates, with what was regained from shut paths and features held, ``[K, B]``."""
        return self._free(ledger, lesson) * self.held.to(ledger.losses.dtype)[:, None]

    def _free(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The weights before paths on features are held."""
        return super().forward(ledger, lesson) * self.regained.to(ledger.losses.dtype)[:, None]

    def hears(self, ledger: Ledger, lesson: Lesson) -> None:
        """Tell the guard, share anew what belongs to paths of one kind, and hold paths on features to their reach."""
        super().hears(ledger, lesson)
        guard = next(gate for gate in self.gates if isinstance(gate, Guard))  # nobody else asks
        shut = guard.shut.tolist()
        self.regained.fill_(1.0)
        for kind in self._kinds:
            heard = [members for members in kind if not all(shut[k] for k in members)]
            for members in heard:
                self.regained[members] = len(kind) / len(heard)
        if guard.step % guard.every == 0:  # before, layers of paths have learned nothing yet
            self._hold(guard, ledger, lesson)

    @torch.no_grad()
    def _hold(self, guard: Guard, ledger: Ledger, lesson: Lesson) -> None:
        """Pulls move half-way to what a look finds, since one look sees one batch; outliers count for ten times."""
        responses, features = self._kinds
        if not features:
            return
        across = (1 - guard.aligned.square()).clamp(min=0).sqrt()
        across[[k for members in responses for k in members]] = 1.0
        found = (guard.pull * across).to(self.pull)
        old = self.pull.where(self.pull.isfinite(), found)
        self.pull = torch.where(found.isfinite(), (old + torch.minimum(found, 10 * old)) / 2, self.pull)
        known = self.pull.where(self.pull.isfinite(), 0.0)
        pulls = known * shared_mean(self._free(ledger, lesson).mean(dim=1)).to(self.pull)
        # Teachers of one path ask for much the same; different paths for different things.
        total = torch.stack([pulls[members].sum() for members in features]).square().sum().sqrt()
        most = self.reach * (1 + sum((pulls[members].sum() for members in responses), start=pulls.new_zeros(())))
        held = (most / total.clamp(min=1e-12)).clamp(max=1.0)
        for members in features:
            self.held[members] = held
        lowest = torch.minimum(self.lowest, held)
        if lowest < TOLD <= self.lowest:
            self._news.append(
                f"paths on features are held to {float(held):.2f} of their size since step {guard.step}: they "
                f"pulled {float(total):.3g} times as hard as the task, across its direction"
            )
        self.lowest = lowest

    def news(self) -> list[str]:
        """The news of every part, and when paths on features are held to less than half their size."""
        told, self._news = self._news, []
        return [*super().news(), *told]
