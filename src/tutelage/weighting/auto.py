"""The default: nothing to tune."""

from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.errors import InputError
from tutelage.ledger import Ledger, Lesson, Row, Spec

from .base import Weighting, by_path
from .calibrate import Calibrate
from .guard import Guard
from .product import Product
from .trust import Trust
from .warmup import Warmup


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

    Args:
        response: Size of all paths on the student's output relative to the task's loss, 0 or more.
        feature: Size of all other paths together, 0 or more; None for what the task says.
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

    def __init__(
        self,
        *,
        response: float = 4.0,
        feature: float | None = None,
        warmup: int = 100,
        share: Literal["trust", "pixel", "equal", "whole"] = "trust",
        guard: bool = True,
    ) -> None:
        super().__init__()
        if share not in ("trust", "pixel", "equal", "whole"):
            raise InputError(f"Auto: expected share='trust', 'pixel', 'equal' or 'whole'; found {share!r}.")
        self.register_buffer("regained", torch.ones(0))
        self._kinds: list[list[list[int]]] = []
        self.share = share
        self.response = response
        self.feature = feature
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
        super().bind(rows, spec)

    def forward(self, ledger: Ledger, lesson: Lesson) -> Tensor:
        """The product of scale and gates, with what was regained from paths that are shut, ``[K, B]``."""
        return super().forward(ledger, lesson) * self.regained.to(ledger.losses.dtype)[:, None]

    def hears(self, ledger: Ledger, lesson: Lesson) -> None:
        """Tell the guard, and share anew what belongs to paths of one kind."""
        super().hears(ledger, lesson)
        shut = next(gate for gate in self.gates if isinstance(gate, Guard)).shut.tolist()  # nobody else asks
        self.regained.fill_(1.0)
        for kind in self._kinds:
            heard = [members for members in kind if not all(shut[k] for k in members)]
            for members in heard:
                self.regained[members] = len(kind) / len(heard)
