"""The default: nothing to tune."""

from typing import Literal

from torch import nn

from tutelage.errors import InputError
from tutelage.ledger import Row, Spec

from .base import by_path
from .calibrate import Calibrate
from .product import Product
from .trust import Trust
from .warmup import Warmup


class Auto(Product):
    """Calibrated paths, features eased in, teachers trusted sample by sample.

    Assumes that what a teacher answers is worth more than the labels alone (four times as much: a fully calibrated
    weight of 1 distilled less well, see the lab notes), and that its features are a help on the side: paths on the
    student's output together weigh `response` times the task's loss, all other paths together `feature` times.

    The latter fade in, since untrained connectors have little to say; the former are in comparable units already, so
    that their scale is changed fourfold at most: a teacher that says next to nothing is not blown up. Among several
    teachers of a path each sample leaves out the one that is most wrong about it. This protects against scales and
    against one bad teacher among several; not against a bad teacher that is alone.

    Args:
        response: Size of all paths on the student's output relative to the task's loss, 0 or more.
        feature: Size of all other paths together, 0 or more.
        warmup: Optimizer steps over which the other paths fade in.
        share: How the teachers of a path share its weight: ``"trust"`` sample by sample; ``"equal"`` all alike, the
            control for it; ``"whole"`` each has all of it, for a gate of yours that shares it.

    Example:
        >>> rows = (Row("base"), Row("logits", "big"), Row("layer3", "big"))
        >>> rule = Auto()
        >>> rule.bind(rows, Spec(call=None, taps={}, responses=frozenset({"logits"})))
        >>> [type(part).__name__ for part in rule.parts], rule.scales[0].target
        (['Calibrate', 'Warmup', 'Trust'], {'logits': 4.0, 'layer3': 0.5})
    """

    def __init__(
        self,
        *,
        response: float = 4.0,
        feature: float = 0.5,
        warmup: int = 100,
        share: Literal["trust", "equal", "whole"] = "trust",
    ) -> None:
        super().__init__()
        if share not in ("trust", "equal", "whole"):
            raise InputError(f"Auto: expected share='trust', 'equal' or 'whole'; found {share!r}.")
        self.share = share
        self.response = response
        self.feature = feature
        self.warmup = warmup

    def bind(self, rows: tuple[Row, ...], spec: Spec) -> None:
        """Share `response` and `feature` among the paths there are."""
        paths = tuple(by_path(rows))
        responses = [path for path in paths if path in spec.responses]
        features = [path for path in paths if path not in responses]
        target = {path: self.response / len(responses) for path in responses}
        target |= {path: self.feature / len(features) for path in features}
        calibrate = Calibrate(target, limit=dict.fromkeys(responses, 4.0), mean=self.share == "equal")
        self.scales = nn.ModuleList([calibrate])
        self.gates = nn.ModuleList([Warmup(self.warmup, paths=features), *([Trust()] * (self.share == "trust"))])
        super().bind(rows, spec)
