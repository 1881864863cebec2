"""What the contract tests feed each part where the usual inputs do not fit: one row a part, or none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from tutelage import connectors, losses

B = 6


@dataclass(frozen=True)
class LossRow:
    """Shapes of one sample, what the loss asks for by keyword, and how to build it if it is a module."""

    student: tuple[int, ...] = (5,)
    teacher: tuple[int, ...] = (5,)
    extras: dict[str, Any] = field(default_factory=dict)
    build: Callable[..., Any] | None = None


def crd_without_chance():
    """CRD against all other samples, in a fixed order."""
    loss = losses.CRD(student=(5,), teacher=(7,), samples=9, negatives=8, feat_dim=4)
    loss.draw = lambda index: (index[:, None] + torch.arange(1, 9)) % 9
    return loss


def classifier():
    """A teacher's classifier of features (5,)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(5, 4)


MAPS, TWO_WIDTHS = LossRow((3, 4, 4), (5, 4, 4)), LossRow((5,), (7,))
LABELS = {"target": torch.tensor([3, 0, 4, 1, 2, 2])}
LABELLED = LossRow(extras=LABELS)

LOSSES = {
    "CC": LossRow((5,), (7,), build=lambda: losses.CC(student=(5,), teacher=(7,), feat_dim=4)),
    "CRD": LossRow((5,), (7,), {"index": torch.tensor([3, 0, 8, 5, 2, 6])}, crd_without_chance),
    "PAD": LossRow(build=lambda: losses.PAD(student=(5,))),
    "attention": MAPS,
    "correlation": TWO_WIDTHS,
    "cwd": LossRow((3, 4, 4), (3, 4, 4)),
    "dkd": LABELLED,
    "nkd": LABELLED,
    "pairwise": MAPS,
    "pkt": TWO_WIDTHS,
    "rkd_angle": TWO_WIDTHS,
    "rkd_distance": TWO_WIDTHS,
    "similarity": MAPS,
    "srrl": LossRow((5, 3, 3), (5, 2, 2), {"head": classifier()}),
    "virtual_teacher": LABELLED,
}

VECTOR, TOKENS, MAP = (6,), (17, 6), (6, 8, 8)

CONNECTORS = {
    "Pool": [(connectors.Pool, student, (6,)) for student in (VECTOR, TOKENS, MAP)],
    "Project": [
        (connectors.Project, VECTOR, (9,)),
        (connectors.Project, TOKENS, (17, 9)),
        (connectors.Project, MAP, (9, 8, 8)),
        (lambda: connectors.Project(norm=True), VECTOR, (9,)),
        (lambda: connectors.Project(norm=True), TOKENS, (17, 9)),
        (lambda: connectors.Project(norm=True), MAP, (9, 8, 8)),
    ],
    "Regressor": [
        (connectors.Regressor, MAP, teacher)
        for teacher in ((9, 4, 4), (9, 16, 16), (9, 8, 8), (9, 5, 7), (9, 32, 32), (9, 4, 16), (9,))
    ],
    "Resize": [
        *((connectors.Resize, MAP, (6, *grid)) for grid in ((4, 4), (16, 16), (8, 8), (5, 11), (3, 8))),
        (connectors.Resize, TOKENS, (65, 6)),
        (connectors.Resize, TOKENS, (9, 6)),
    ],
    "Tokens": [
        (connectors.Tokens, TOKENS, (6, 4, 4)),
        (connectors.Tokens, (16, 6), (6, 2, 8)),
        (connectors.Tokens, MAP, (64, 6)),
        (connectors.Tokens, MAP, (66, 6)),
    ],
    "chain": [
        (
            lambda: connectors.chain(connectors.Tokens(), connectors.Resize(), connectors.Project()),
            TOKENS,
            (9, 8, 8),
        ),
        (
            lambda: connectors.chain(connectors.Resize(), connectors.Tokens(), connectors.Project()),
            MAP,
            (17, 9),
        ),
        (lambda: connectors.chain(connectors.Pool(), connectors.Project(norm=True)), MAP, (9,)),
    ],
}
"""Connector -> (how to build it, shape of a student's sample, shape of a teacher's)."""
