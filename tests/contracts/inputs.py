"""What the contract tests feed each part where the usual inputs do not fit: one row a part, or none."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tutelage import connectors, losses

B = 6


@dataclass(frozen=True)
class LossRow:
    """Shapes of one sample, what the loss asks for by keyword, and how to build it if it is a module.

    A tuple of shapes stands for a path of several taps. `by_position` is for a loss whose value depends on the order
    of the batch, and says so.
    """

    student: tuple[Any, ...] = (5,)
    teacher: tuple[Any, ...] = (5,)
    extras: dict[str, Any] = field(default_factory=dict)
    build: Callable[..., Any] | None = None
    by_position: bool = False


def crd_without_chance():
    """CRD against all other samples, in a fixed order."""
    loss = losses.CRD(student=(5,), teacher=(7,), samples=9, negatives=8, feat_dim=4)
    loss.draw = lambda index: (index[:, None] + torch.arange(1, 9)) % 9
    return loss


def crcd_without_chance():
    """CRCD against the same samples for all."""
    loss = losses.CRCD(student=(5,), teacher=(7,), samples=9, negatives=8, feat_dim=4)
    loss.draw = lambda index: torch.tensor([0, 1, 2, 3, 4, 5, 6, 8])
    return loss


def dpk_without_chance():
    """DPK with the teacher at one place, the same for all samples."""
    loss = losses.DPK(student=(3, 4, 4), teacher=(5, 4, 4))
    loss.draw = lambda x, share: (torch.arange(16).view(1, 1, 4, 4) == 5).to(x.dtype)
    return loss


def mgd_without_chance():
    """MGD with one place hidden, the same for all samples."""
    loss = losses.MGD(student=(3, 4, 4), teacher=(5, 4, 4))
    loss.draw = lambda x: (torch.arange(16).view(1, 1, 4, 4) != 5).to(x.dtype)
    return loss


def learned(name, row, **options):
    """A loss with layers, for the shapes of a row."""
    return replace(row, build=lambda: getattr(losses, name)(student=row.student, teacher=row.teacher, **options))


def factor_transfer():
    return losses.FT(paraphraser=losses.ft.Paraphraser(5), student=(3, 4, 4), teacher=(5, 4, 4))


def classifier():
    """A teacher's classifier of features (5,)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(5, 4)


class RestOfHead(torch.nn.Module):
    """The rest of a detector's head: two classes and boxes at every place, of two towers 5 wide."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.classes, self.boxes = torch.nn.Conv2d(5, 3, 1), torch.nn.Conv2d(5, 4, 1)

    def forward(self, features):
        half = len(features) // 2
        logits, sides = (
            torch.cat([layer(x).flatten(2).mT for x in maps], dim=1)
            for layer, maps in ((self.classes, features[:half]), (self.boxes, features[half:]))
        )
        return logits, torch.nn.functional.softplus(sides) * torch.tensor([-1.0, -1, 1, 1]).to(sides)


BOXES = {
    "target": torch.tensor([[4.0, 4, 20, 12, 1], [0, 0, 0, 0, -1]]).repeat(B, 1, 1)
    + torch.tensor([1.0, 1, 1, 1, 0]) * 2,
    "inputs": torch.zeros(B, 3, 32, 32),
}


def csd_without_order():
    """CSD with negatives from the whole batch, and an extractor that is nowhere flat."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(4, 5, 3, padding=1)
        return losses.CSD(extractor=torch.nn.Sequential(*layers), layers=["0", "2"], negatives=B)


MAPS, TWO_WIDTHS = LossRow((3, 4, 4), (5, 4, 4)), LossRow((5,), (7,))
LABELLED = LossRow(extras={"target": torch.tensor([3, 0, 4, 1, 2, 2])})
EQUAL_MAPS = LossRow((5, 4, 4), (5, 4, 4))
LAYERS = LossRow(((3, 4, 4), (5, 4, 4), (4, 2, 2)), ((3, 8, 8), (5, 4, 4), (4, 2, 2)))
TOWERS = (5, 4, 4), (5, 2, 2), (5, 4, 4), (5, 2, 2)
PYRAMID = LossRow(((3, 8, 8), (5, 4, 4)), ((4, 8, 8), (6, 4, 4)))

LOSSES = {
    "attention": MAPS,
    "similarity": MAPS,
    "affinity": MAPS,
    "channel_statistics": MAPS,
    "CSD": LossRow((3, 8, 8), (3, 8, 8), {"inputs": torch.rand(6, 3, 4, 4)}, csd_without_order),
    "PISR": learned("PISR", MAPS),
    "nst": MAPS,
    "factor": EQUAL_MAPS,
    "fsp": LAYERS,
    "irg": LossRow(((3, 4, 4), (5,)), ((3, 4, 4), (7,))),
    "kdsvd": LAYERS,
    "hierarchical_context": LossRow(((3, 8, 8), (5,)), ((3, 8, 8), (5,))),
    "VID": learned("VID", MAPS),
    "OFD": learned("OFD", MAPS, scale=torch.ones(5), shift=torch.linspace(-1, 1, 5)),
    "FT": replace(MAPS, build=factor_transfer),
    "DPK": replace(MAPS, build=dpk_without_chance),
    "MGD": replace(MAPS, build=mgd_without_chance),
    "ReviewKD": learned("ReviewKD", PYRAMID),
    "SemCKD": replace(learned("SemCKD", PYRAMID, batch_size=B), by_position=True),
    "CC": LossRow((5,), (7,), build=lambda: losses.CC(student=(5,), teacher=(7,), feat_dim=4)),
    "PAD": LossRow(build=lambda: losses.PAD(student=(5,), teacher=(5,))),
    "correlation": TWO_WIDTHS,
    "cwd": LossRow((3, 4, 4), (3, 4, 4)),
    "imitation": LossRow((5, 4, 4), (5, 4, 4), BOXES),
    "FGD": replace(learned("FGD", PYRAMID), teacher=PYRAMID.teacher, extras=BOXES),
    "crosskd": LossRow(TOWERS, TOWERS, {"head": RestOfHead()}),
    "anchor_classes": LossRow((6, 4), (6, 4)),
    "ld": LossRow((6, 4, 3), (6, 4, 3)),
    "anchor_boxes": LossRow((6, 4), ((6, 4), (6, 3))),
    "dkd": LABELLED,
    "nkd": LABELLED,
    "ifvd": replace(MAPS, extras={"target": torch.arange(96).reshape(6, 4, 4) % 5}),
    "pairwise": MAPS,
    "pkt": TWO_WIDTHS,
    "self_attention": LossRow(
        ((4, 6), (4, 6)), ((4, 9), (4, 9)), build=lambda: functools.partial(losses.self_attention, heads=3)
    ),
    "token_relations": LossRow(((4, 6), (3, 4, 4)), ((4, 9), (5, 4, 4))),
    "rkd_angle": TWO_WIDTHS,
    "rkd_distance": TWO_WIDTHS,
    "srrl": LossRow((5, 3, 3), (5, 2, 2), {"head": classifier()}),
    "virtual_teacher": LABELLED,
    "CRD": LossRow((5,), (7,), {"index": torch.tensor([3, 0, 8, 5, 2, 6])}, crd_without_chance),
    "CRCD": LossRow((5,), (7,), {"index": torch.tensor([3, 0, 8, 5, 2, 6])}, crcd_without_chance),
}

VECTOR, TOKENS, MAP = (6,), (17, 6), (6, 8, 8)

CONNECTORS = {
    "Bottleneck": [(connectors.Bottleneck, MAP, (9, 8, 8))],
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
