"""Properties that weightings share, for drawn losses, answers and gates."""

import importlib.util
import pathlib
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage.ledger import Ledger, Lesson, Row
from tutelage.weighting import Product, Weighting

_contract = pathlib.Path(__file__).parents[1] / "contracts" / "test_weighting.py"
_spec = importlib.util.spec_from_file_location("weighting_contract", _contract)
contract = sys.modules["weighting_contract"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(contract)
NAMES, ROWS, meet = contract.NAMES, contract.ROWS, contract.meet
EAGER = {"Guard": {"every": 1, "memory": 3, "doubt": 0.0, "margin": 0.0}, "Meta": {"every": 1, "hard": 4}}
"""Options under which a few meetings are enough to decide, or to learn, something."""


def build(name: str, rows=ROWS) -> Weighting:
    return contract.build(name, rows, **EAGER.get(name, {}))


GATES = [name for name in NAMES if build(name).kind == "gate"]
SCALES = [name for name in NAMES if name not in GATES]
NOT_BY_NAME = {
    "RLW": "draws in the order of the rows",
    "Learned": "draws in the order of the teachers",
    "Meta": "reads in that order",
}
"""Weightings that do not follow rows which change places, by chance alone -> why."""
NOT_ALIKE = {**NOT_BY_NAME, "Route": "goes by the names of the teachers"}
"""Weightings that tell apart teachers who say the same -> why."""
UNITS = {  # weightings whose claim is that units do not matter -> what stays when each row has units of its own
    **dict.fromkeys(["DWA", "Fixed", "RLW"], "weights"),
    **dict.fromkeys([name for name in GATES if name not in ("AEKD", "Learned", "Meta")], "weights"),
    **dict.fromkeys(["Calibrate", "FAMO", "GLS"], "pull"),
}
COMMON = ["AEKD", "ByGradient"]  # and those for which a factor that all rows share does not matter

few = settings(max_examples=5, deadline=None)
seeds = st.integers(0, 2**31)
sizes = st.lists(st.sampled_from([1e-3, 0.1, 1.0, 7.0, 1e3]), min_size=5, max_size=5)
losses = st.lists(
    st.lists(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 40.0, 1e30, float("nan"), float("inf")]), min_size=4, max_size=4),
    min_size=5,
    max_size=5,
)


def after(ledger: Ledger) -> Ledger:
    """What a step makes of the losses: each row falls, some further, whatever its units and place."""
    losses = ledger.losses.detach()
    return Ledger(ledger.rows, losses * (0.4 + 0.5 * losses.amin(1, keepdim=True) / losses.amax(1, keepdim=True)))


def lived(rule: Weighting, meetings, order=None, factors=None) -> torch.Tensor:
    """The weights of a rule after a few meetings, an epoch and perhaps a look each.

    Rows may come in another order, or losses in other units.
    """
    torch.manual_seed(0)
    order = [0, 1, 2, 3, 4] if order is None else order
    for ledger, lesson in meetings:
        losses = ledger.losses if factors is None else ledger.losses * torch.as_tensor(factors)[:, None]
        now = Ledger(tuple(ledger.rows[k] for k in order), losses[order])
        weights = rule(now, lesson)
        rule.after_step(lambda batch, params=None, now=now: after(now))
        if rule.asks() is not None:
            rule.hears(now, lesson)
        rule.end_epoch()
    weights = rule(now, lesson)
    return weights.detach().expand(-1, 4)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_BY_NAME])
@few
@given(seed=seeds, order=st.permutations(range(1, 5)))
def test_weights_follow_rows_that_change_places(name, seed, order):
    torch.manual_seed(seed)
    meetings, order = [meet() for _ in range(3)], [0, *order]
    here = lived(build(name), meetings)
    there = lived(build(name, tuple(ROWS[k] for k in order)), meetings, order)
    assert_close(there, here[order], rtol=1e-3, atol=1e-5)


@few
@given(seed=seeds)
def test_learned_shares_follow_teachers_that_change_places(seed):
    torch.manual_seed(seed)
    meeting, order = meet(), [0, 2, 1, 4, 3]
    here, there = build("Learned"), build("Learned", tuple(ROWS[k] for k in order))
    there.load_state_dict({"direction": here.direction.data, "factor": here.factor.data.flip(0)})
    assert_close(lived(there, [meeting], order), lived(here, [meeting])[order])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_ALIKE])
@few
@given(seed=seeds)
def test_teachers_that_say_the_same_weigh_the_same(name, seed):
    torch.manual_seed(seed)
    meetings = []
    for _ in range(3):
        ledger, lesson = meet()
        said = dict.fromkeys("ab", lesson.teachers["a"])
        adapted = {row.name: lesson.adapted[f"{row.path}/a"] for row in ROWS[1:]}
        meetings.append(
            (
                Ledger(ROWS, ledger.losses[[0, 1, 1, 3, 3]]),
                Lesson(lesson.batch, lesson.student, said, adapted),
            )
        )
    rule = build(name)
    for part in (rule, *rule.modules()):  # classifiers of their own would tell them apart
        if hasattr(part, "_heads"):
            part._heads = dict.fromkeys("ab", part._heads["a"])
    weights = lived(rule, meetings)
    assert_close(weights[1], weights[2], rtol=1e-3, atol=1e-4)
    assert_close(weights[3], weights[4], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", UNITS)
@few
@given(seed=seeds, units=sizes)
def test_units_of_the_losses_do_not_matter(name, seed, units):
    torch.manual_seed(seed)
    meetings, factors = [meet() for _ in range(3)], torch.tensor([1.0, *units[1:]])
    state = build(name).state_dict()
    here, there = build(name), build(name)
    here.load_state_dict(state)
    there.load_state_dict(state)
    weights = lived(here, meetings), lived(there, meetings, factors=factors)
    if UNITS[name] == "pull":
        weights = weights[0], weights[1] * factors[:, None]
        if name != "Calibrate":  # what the rows are shared by; their sum may differ
            weights = tuple(weight[1:] / weight[1:].sum(dim=0) for weight in weights)
    assert_close(*weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", COMMON)
@few
@given(seed=seeds, unit=st.sampled_from([1e-6, 0.1, 30.0, 1e6]))
def test_a_unit_that_all_losses_share_does_not_matter(name, seed, unit):
    torch.manual_seed(seed)
    meetings = [meet() for _ in range(2)]
    weights = lived(build(name), meetings), lived(build(name), meetings, factors=[unit] * 5)
    assert_close(*weights, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=seeds, values=losses)
def test_whatever_the_losses_are_weights_are_finite_and_not_negative(name, seed, values):
    torch.manual_seed(seed)
    rule, (ledger, lesson) = build(name), meet()
    values = torch.tensor(values)
    pull = 1 + 1e-3 * ledger.losses  # so that there are gradients
    for _ in range(2):
        weights = rule(Ledger(ROWS, values * pull), lesson)
        rule.after_step(lambda batch, params=None: Ledger(ROWS, values.flip(1)))
        rule.end_epoch()
        assert weights.isfinite().all()
        assert (weights >= 0).all() or name in contract.MAY_BE_NEGATIVE


@pytest.mark.parametrize("name", GATES)
@few
@given(seed=seeds, sure=st.sampled_from([0.0, 3.0, 1e4]), lost=st.booleans())
def test_where_all_teachers_are_wrong_a_gate_keeps_its_promise(name, seed, sure, lost):
    torch.manual_seed(seed)
    rule, (ledger, lesson) = build(name), meet()
    wrong = -sure * torch.nn.functional.one_hot(lesson.batch.target, contract.CLASSES).float()
    said = {teacher: {"": torch.full_like(wrong, torch.nan) if lost else wrong.clone()} for teacher in lesson.teachers}
    weights = rule(ledger, Lesson(lesson.batch, lesson.student, said, lesson.adapted)).expand(-1, 4)
    assert ((weights >= 0) & (weights <= 1 + 1e-5)).all()
    if name in ("AEKD", "Entropy", "Learned", "Meta", "Trust"):  # shares: one whole for each path, however bad they are
        assert_close(weights[1:3].sum(dim=0), torch.ones(4))
        assert_close(weights[3:].sum(dim=0), torch.ones(4))
    if name == "Reliability":
        assert (weights[1:] <= 1 / (1 + torch.tensor(5.0).log()) + 1e-4).all()
        assert not lost or (weights[1:] < 1e-3).all()


class Shut(Weighting):
    """A gate that is shut where it is told."""

    kind = "gate"
    per_sample = averages = True

    def __init__(self, pattern: torch.Tensor) -> None:
        super().__init__()
        self.pattern = pattern

    def forward(self, ledger, lesson):
        return self.pattern.to(ledger.losses.dtype)


@pytest.mark.parametrize("name", SCALES)
@few
@given(seed=seeds, values=losses, shut=st.lists(st.booleans(), min_size=16, max_size=16))
def test_what_a_gate_has_shut_stays_shut_whatever_the_scale_says(name, seed, values, shut):
    torch.manual_seed(seed)
    pattern = torch.ones(5, 4)
    pattern[1:] = torch.tensor(shut).reshape(4, 4).float()
    rule, (ledger, lesson) = Product([build(name)], [Shut(pattern)]), meet()
    rule.bind(ROWS, contract.SPEC)
    weights = rule(Ledger(ROWS, torch.tensor(values) * (1 + 1e-3 * ledger.losses)), lesson)
    assert weights.expand(-1, 4)[pattern == 0].eq(0).all()


@pytest.mark.parametrize("name", GATES)
def test_one_teacher_on_one_path_is_not_blamed_for_being_alone(name):
    rows = (Row("base"), Row("logits", "a"))
    ledger, lesson = meet(rows)
    right = 20 * torch.nn.functional.one_hot(lesson.batch.target, contract.CLASSES).float()
    rule = build(name, rows)
    for _ in range(3):  # warm-up
        rule.after_step(lambda batch, params=None: ledger)
    weights = rule(ledger, Lesson(lesson.batch, lesson.student, {"a": {"": right}}, lesson.adapted))
    assert_close(weights[1], torch.ones_like(weights[1]))
