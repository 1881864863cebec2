"""The mathematics of each rule."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.errors import InputError, RecipeError, UnknownName
from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
from tutelage.weighting import (
    Adaptive,
    Auto,
    Calibrate,
    Decay,
    Fixed,
    Product,
    Trust,
    Uncertainty,
    Warmup,
    Weighting,
)

ROWS = (Row("base"), Row("logits", "a"), Row("logits", "b"), Row("deep", "a"))
INF, NAN = math.inf, math.nan


def spec(**known) -> Spec:
    return Spec(call=None, taps={}, **known)


def bound(rule: Weighting, rows=ROWS, **known) -> Weighting:
    rule.bind(rows, spec(**known))
    return rule


def ledger(*means: float, rows=ROWS, samples: int = 3) -> Ledger:
    return Ledger(rows[: len(means)], torch.tensor(means, dtype=torch.float32)[:, None].expand(-1, samples).clone())


def lesson(target=(0, 1, 2), labelled=None, student=None, teachers=None, adapted=None) -> Lesson:
    target = torch.as_tensor(target)
    index = torch.arange(len(target))
    known = torch.ones(len(target), dtype=torch.bool) if labelled is None else torch.tensor(labelled)
    return Lesson(
        Batch(torch.zeros(len(target), 1), target, index, index, known),
        {} if student is None else {"": student},
        {name: {"": x} for name, x in (teachers or {}).items()},
        adapted or {},
    )


def total(rule: Weighting, book: Ledger, said: Lesson) -> torch.Tensor:
    weights = rule(book, said)
    return torch.where(weights == 0, 0.0, weights * book.losses).sum(0).mean() + rule.penalty()


# Fixed


def test_fixed_takes_the_row_name_before_the_path_name():
    rule = bound(Fixed({"logits": 2.0, "logits/b": 3.0}, base=0.1, default=0.5))
    assert_close(rule(ledger(1, 1, 1, 1), lesson())[:, 0], torch.tensor([0.1, 2.0, 3.0, 0.5]))


def test_fixed_mean_is_the_average_over_the_teachers_of_each_path():
    rule = bound(Fixed({"logits": 2.0}, mean=True))
    assert_close(rule(ledger(1, 1, 1, 1), lesson())[:, 0], torch.tensor([1.0, 1.0, 1.0, 1.0]))


@pytest.mark.parametrize("weight", [-1.0, INF, NAN])
def test_fixed_refuses_weights_that_are_no_weights(weight):
    with pytest.raises(InputError, match="finite number, 0 or more"):
        bound(Fixed({"logits": weight}))
    with pytest.raises(InputError, match="finite number, 0 or more"):
        Fixed(base=weight)


def test_the_closest_names_are_offered():
    with pytest.raises(UnknownName, match=r"'logit'[^:]*\n  close: logits"):
        bound(Fixed({"logit": 1.0}))


# Entries that are not finite


@pytest.mark.parametrize("rule", [Fixed(), Calibrate(), Adaptive(), Uncertainty(), Product(), Auto()], ids=repr)
def test_a_row_of_nan_has_weight_zero_and_changes_nothing_else(rule):
    sound, broken = ledger(2, 4, 6, 8), ledger(2, 4, NAN, 8)
    rule = bound(rule).eval()
    expected = rule(sound, lesson()).detach().clone()
    weights = rule(broken, lesson())
    assert (weights[2] == 0).all()
    assert_close(weights[[0, 1, 3]], expected[[0, 1, 3]])


def test_one_infinite_entry_costs_only_itself():
    book = ledger(2, 4)
    book.losses[1, 2] = INF
    weights = bound(Calibrate(), ROWS[:2])(book, lesson())
    assert_close(weights[1], torch.tensor([0.5, 0.5, 0.0]))


def test_a_task_loss_that_is_not_finite_is_not_hidden():
    assert bound(Fixed())(ledger(NAN, 1, 1, 1), lesson())[0].eq(1).all()


@pytest.mark.parametrize("rule", [Adaptive(), Uncertainty()], ids=["adaptive", "uncertainty"])
def test_a_row_of_nan_leaves_the_gradients_of_learned_scales_finite(rule):
    total(bound(rule), ledger(2, 4, NAN, 8), lesson()).backward()
    assert all(p.grad.isfinite().all() for p in rule.parameters())


# Product


class Constant(Weighting):
    def __init__(self, value: float, kind: str) -> None:
        super().__init__()
        self.value, self.kind, self.saw, self.calls = value, kind, [], []

    def forward(self, book, said):
        self.saw.append(book.losses.clone())
        return torch.full((len(book.rows), 1), self.value)

    def penalty(self):
        return self.value

    def after_step(self, probe=None):
        self.calls.append(probe)

    def end_epoch(self):
        self.calls.append("epoch")


def test_a_gate_that_is_shut_stays_shut_whatever_the_scale_says():
    rule = bound(Product(Constant(INF, "scale"), [Constant(0.0, "gate"), Constant(0.5, "gate")]))
    assert rule(ledger(1, 1, 1, 1), lesson()).eq(0).all()


def test_a_product_multiplies_all_its_parts_and_adds_their_penalties():
    parts = [Constant(2.0, "scale"), Constant(3.0, "scale")], [Constant(0.25, "gate")]
    rule = bound(Product(*parts))
    assert rule(ledger(1, 1, 1, 1), lesson()).eq(1.5).all()
    assert rule.penalty() == 5.25


def test_scales_see_the_raw_losses_and_never_what_a_gate_did():
    first, second = Constant(2.0, "scale"), Constant(3.0, "scale")
    book = ledger(1, 2, 3, 4)
    bound(Product([first, second], [Constant(0.0, "gate")]))(book, lesson())
    assert_close(first.saw, [book.losses])
    assert_close(second.saw, [book.losses])


def test_a_product_passes_the_end_of_steps_and_epochs_on():
    scale, gate = Constant(1.0, "scale"), Constant(1.0, "gate")
    rule = bound(Product(scale, [gate]))
    rule.after_step("probe")
    rule.end_epoch()
    assert scale.calls == gate.calls == ["probe", "epoch"]


def test_scales_and_gates_may_not_be_confused():
    with pytest.raises(InputError, match="expected a scale, found Trust"):
        Product([Trust()])
    with pytest.raises(InputError, match="expected a gate, found Fixed"):
        Product(gates=[Fixed()])
    with pytest.raises(InputError, match="found ReLU, which is no weighting"):
        Product([nn.ReLU()])


# Calibrate


def test_calibrated_rows_are_on_average_as_large_as_the_task_loss():
    rule, books = bound(Calibrate(steps=5)), []
    for _ in range(5):
        books.append(Ledger(ROWS, torch.rand(4, 3) * torch.tensor([[2.0], [500.0], [0.01], [7.0]])))
        weights = rule(books[-1], lesson())
    sizes = (weights * sum(book.losses for book in books) / 5).mean(dim=1)
    assert_close(sizes, sizes[:1].expand(4))


def test_targets_are_relative_sizes():
    rule = bound(Calibrate({"logits": 0.5, "deep": 0.0}))
    assert_close(rule(ledger(2, 4, 8, 8), lesson())[:, 0], torch.tensor([1.0, 0.25, 0.125, 0.0]))


def test_mean_splits_a_path_among_its_teachers():
    rule = bound(Calibrate(mean=True))
    assert_close(rule(ledger(2, 4, 8, 8), lesson())[:, 0], torch.tensor([1.0, 0.25, 0.125, 0.25]))


def test_calibration_is_frozen_after_its_steps():
    rule = bound(Calibrate(steps=2), ROWS[:2])
    for size in (1.0, 3.0):
        frozen = rule(ledger(2, size), lesson())
    assert_close(frozen[1, 0], torch.tensor(1.0))
    for size in (1e-6, 0.0, 20.0):
        assert_close(rule(ledger(2, size), lesson()), frozen)


@pytest.mark.parametrize("start", [2.0, -2.0])
def test_a_loss_that_runs_away_is_heard_less_and_less(start):
    rule = bound(Calibrate(0.5, steps=1), ROWS[:2])
    rule(ledger(2, start), lesson())
    for now, expected in ((20, 0.5), (40, 0.125), (2e6, 5e-11), (-2, 0.5), (-4, 0.125), (-2e6, 5e-13)):
        fresh = bound(Calibrate(0.5, steps=1), ROWS[:2])
        fresh.load_state_dict(rule.state_dict())
        if start > 0 or now < 0:
            assert_close(fresh(ledger(500, now), lesson())[:, 0], torch.tensor([1.0, expected]))


def test_a_few_samples_that_are_far_off_do_not_make_a_row_run_away():
    rule = bound(Calibrate(0.5, steps=1), ROWS[:2])
    rule(ledger(2, 2), lesson())
    few = Ledger(ROWS[:2], torch.tensor([[2.0] * 3, [0.0, 0.0, 50.0]]))
    assert_close(rule(few, lesson())[1], torch.full((3,), 0.5))


def test_a_row_that_was_never_positive_weighs_1_at_most():
    for target, expected in ((8.0, 1.0), (0.5, 0.5)):
        assert_close(bound(Calibrate(target), ROWS[:2])(ledger(2, -1), lesson())[1, 0], torch.tensor(expected))


def test_calibration_learns_nothing_in_evaluation_or_from_a_probe():
    rule = bound(Calibrate(), ROWS[:2])
    rule.eval()(ledger(2, 50), lesson())
    with torch.no_grad():
        rule.train()(ledger(2, 50), lesson())
    assert rule.count.eq(0).all()
    assert_close(rule(ledger(2, 1), lesson())[1, 0], torch.tensor(2.0))


def test_a_resumed_calibration_is_still_frozen():
    rule, fresh = bound(Calibrate(steps=1), ROWS[:2]), bound(Calibrate(steps=1), ROWS[:2])
    weights = rule(ledger(2, 4), lesson())
    fresh.load_state_dict(rule.state_dict())
    assert_close(fresh(ledger(2, 40), lesson()), weights)


@pytest.mark.parametrize(("classes", "expected"), [(tuple("abc"), math.log(3) / 4), ((), 1 / 4)])
def test_without_labels_the_task_loss_is_taken_to_be_that_of_a_guess(classes, expected):
    rule = bound(Calibrate(), ROWS[:2], classes=classes)
    weights = rule(ledger(50, 4), lesson(labelled=[False] * 3))
    assert_close(weights[1, 0], torch.tensor(expected))


def test_a_row_is_measured_when_it_first_has_something_to_say():
    rule = bound(Calibrate(steps=1), ROWS[:2])
    assert_close(rule(ledger(2, 0), lesson())[1, 0], torch.tensor(1.0))
    rule(ledger(2, 8), lesson())
    assert_close(rule(ledger(2, 1), lesson())[1, 0], torch.tensor(0.25))


def test_calibration_stays_within_its_limit():
    rule = bound(Calibrate(limit={"logits": 4.0}))
    assert_close(rule(ledger(1, 1e-3, 1e3, 1e9), lesson())[1:, 0], torch.tensor([4.0, 0.25, 1e-4]))


def test_teachers_of_a_joint_path_share_the_scale_of_their_mean():
    rows = (Row("base"), *(Row(path, t) for path in ("logits", "deep") for t in "ab"))
    rule = bound(Calibrate(joint=["logits"]), rows)
    assert_close(rule(ledger(2, 3, 5, 3, 5, rows=rows), lesson())[1:, 0], torch.tensor([0.5, 0.5, 2 / 3, 0.4]))


def test_a_teacher_of_a_joint_path_that_said_nothing_yet_has_the_scale_of_the_others():
    rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
    assert_close(
        bound(Calibrate(joint=["logits"]), rows)(ledger(2, 4, 0, rows=rows), lesson())[1:, 0], torch.full((2,), 0.5)
    )


def test_a_joint_path_that_does_not_exist_is_refused():
    with pytest.raises(UnknownName, match="joint: no path 'logit'"):
        bound(Calibrate(joint=["logit"]))


def test_several_task_rows_count_together():
    rows = (Row("base"), Row("boxes"), Row("logits", "a"))
    rule = bound(Calibrate(), rows)
    assert_close(rule(ledger(1, 3, 8, rows=rows), lesson())[:, 0], torch.tensor([1.0, 1.0, 0.5]))


# Adaptive and Uncertainty


def descend(rule: Weighting, book: Ledger, steps: int = 120) -> None:
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        total(rule, book, lesson()).backward()
        optimizer.step()
        rule.after_step()


def test_at_rest_the_adaptive_scale_is_the_size_of_the_loss():
    rule = bound(Adaptive(per="row", distill_weight=0.5))
    descend(rule, ledger(1.0, 0.2, 3.0, 30.0))
    assert_close(rule.log_scale.exp(), torch.tensor([0.2, 3.0, 30.0]), rtol=1e-3, atol=0)
    assert_close(rule(ledger(1, 1, 1, 1), lesson())[1, 0], torch.tensor(0.5 / 0.2), rtol=1e-3, atol=0)


def test_teachers_of_a_path_share_one_adaptive_scale():
    rule = bound(Adaptive())
    descend(rule, ledger(1.0, 0.5, 3.5, 30.0))
    assert_close(rule.log_scale.exp(), torch.tensor([4.0, 30.0]), rtol=1e-3, atol=0)


def test_at_rest_the_variance_is_the_size_of_the_loss_and_the_task_has_one_too():
    rule = bound(Uncertainty())
    descend(rule, ledger(1.5, 0.2, 3.0, 30.0))
    assert_close(rule.log_variance.exp(), torch.tensor([1.5, 0.2, 3.0, 30.0]), rtol=1e-3, atol=0)


def test_uncertainty_can_leave_the_task_alone():
    rule = bound(Uncertainty(base=False))
    assert rule.log_variance.shape == (3,)
    assert rule(ledger(1, 1, 1, 1), lesson())[0].eq(1).all()


@pytest.mark.parametrize(
    ("rule", "learned"), [(Adaptive(bound=2.0), "log_scale"), (Uncertainty(bound=2.0), "log_variance")]
)
def test_learned_scales_stay_within_their_bound_and_come_back(rule, learned):
    rule = bound(rule)
    descend(rule, ledger(*[1e-9] * 4))
    assert_close(getattr(rule, learned), torch.full_like(getattr(rule, learned), -2.0))
    descend(rule, ledger(1.0, 1.0, 1.0, 2.0))
    assert (getattr(rule, learned) > -1e-2).all()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Adaptive(per="layer"),
        lambda: Adaptive(distill_weight=-1),
        lambda: Adaptive(init=11.0),
        lambda: Uncertainty(bound=-1),
        lambda: Calibrate(steps=0),
        lambda: Calibrate(limit=0.5),
        lambda: Warmup(-1),
        lambda: Warmup(3, start=2.0),
        lambda: Decay(-1),
        lambda: Decay(3, after=-1),
        lambda: Decay(3, end=1.5),
        lambda: Trust(temperature=0),
        lambda: Trust(on="taps"),
        lambda: Trust(shares="half"),
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected .* found"):
        wrong()


# Warmup


def test_warmup_grows_in_equal_steps_and_stops_at_one():
    gate, seen = bound(Warmup(4, paths=["deep"], start=0.2)), []
    for _ in range(6):
        seen.append(gate(ledger(1, 1, 1, 1), lesson()))
        gate.after_step()
    factors = torch.cat(seen, dim=1)
    assert_close(factors[3], torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0, 1.0]))
    assert factors[:3].eq(1).all()


def test_warmup_over_no_steps_is_open_from_the_start():
    assert bound(Warmup(0))(ledger(1, 1, 1, 1), lesson()).eq(1).all()


# Decay


@pytest.mark.parametrize(
    ("gate", "factors"),
    [
        (Decay(4, after=1, paths=["deep"], end=0.2), [1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]),
        (Decay(0, after=2, paths=["deep"]), [1.0, 1.0, 0.0, 0.0]),
    ],
    ids=["slope", "switch"],
)
def test_decay_waits_falls_in_equal_steps_and_stays(gate, factors):
    gate, seen = bound(gate), []
    for _ in factors:
        seen.append(gate(ledger(1, 1, 1, 1), lesson()))
        gate.after_step()
    found = torch.cat(seen, dim=1)
    assert_close(found[3], torch.tensor(factors))
    assert found[:3].eq(1).all()


# Trust

RIGHT = torch.eye(3) * 8
THREE = (Row("base"), *(Row("logits", t) for t in "abc"))


def test_trust_is_the_equation_written_with_loops():
    said = {t: torch.randn(5, 3) for t in "abc"}
    target = torch.tensor([0, 2, 1, 1, 0])
    weights = bound(Trust(), THREE)(ledger(1, 1, 1, 1, rows=THREE, samples=5), lesson(target, teachers=said))
    for b in range(5):
        doubts = [-math.log(float(said[t][b].softmax(0)[target[b]])) for t in "abc"]
        for k in range(3):
            blame = math.exp(doubts[k]) / sum(math.exp(doubt) for doubt in doubts)
            assert float(weights[k + 1, b]) == pytest.approx((1 - blame) / 2, rel=1e-4)


def test_the_worst_of_three_teachers_is_left_out_for_each_sample():
    worse = {"a": RIGHT.clone(), "b": RIGHT.clone(), "c": RIGHT.clone()}
    worse["a"][0] = worse["b"][1] = worse["c"][2] = torch.tensor([0.0, 0.0, 0.0])
    worse["a"][0, 1] = worse["b"][1, 2] = worse["c"][2, 0] = 20.0
    weights = bound(Trust(), THREE)(ledger(1, 1, 1, 1, rows=THREE), lesson(teachers=worse))
    assert_close(weights[1:], (1 - torch.eye(3)) / 2, rtol=0, atol=1e-4)


def test_the_likelihood_shares_a_path_in_proportion_to_what_each_gives_to_the_label():
    said = {t: torch.randn(5, 3) for t in "abc"}
    target = torch.tensor([0, 2, 1, 1, 0])
    book = ledger(1, 1, 1, 1, rows=THREE, samples=5)
    weights = bound(Trust(shares="likelihood"), THREE)(book, lesson(target, teachers=said))
    given = torch.stack([said[t].softmax(1)[torch.arange(5), target] for t in "abc"])
    assert_close(weights[1:], given / given.sum(dim=0))


def test_two_bad_teachers_of_three_are_left_out_by_likelihood_alone():
    wrong = {"a": RIGHT, "b": RIGHT.roll(1, 0), "c": RIGHT.roll(1, 0)}
    book = ledger(1, 1, 1, 1, rows=THREE)
    assert (bound(Trust(shares="likelihood"), THREE)(book, lesson(teachers=wrong))[1] > 0.99).all()
    assert (bound(Trust(), THREE)(book, lesson(teachers=wrong))[1] < 0.51).all()


def test_a_higher_temperature_makes_shares_more_equal():
    said = {"a": RIGHT, "b": torch.zeros(3, 3)}
    rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
    cold, warm = (
        bound(Trust(temperature=t), rows)(ledger(1, 1, 1, rows=rows), lesson(teachers=said)) for t in (1.0, 5.0)
    )
    assert (cold[1] > warm[1]).all()
    assert (warm[1] > 0.5).all()


def test_samples_without_a_label_are_shared_equally():
    said = {"a": RIGHT, "b": torch.zeros(3, 3), "c": -RIGHT}
    weights = bound(Trust(), THREE)(
        ledger(1, 1, 1, 1, rows=THREE), lesson((0, 1, 2), labelled=[True, False, True], teachers=said)
    )
    assert_close(weights[1:, 1], torch.full((3,), 1 / 3))
    assert weights[1, 0] > weights[3, 0]


def test_a_teacher_that_says_nan_is_the_worst():
    said = {"a": RIGHT, "b": torch.full((3, 3), NAN), "c": torch.zeros(3, 3)}
    weights = bound(Trust(), THREE)(ledger(1, 1, 1, 1, rows=THREE), lesson(teachers=said))
    assert_close(weights[1:, 0], torch.tensor([0.5, 0.0, 0.5]))


def test_teachers_whose_answers_do_not_line_up_share_equally():
    said = {"a": RIGHT, "b": torch.randn(3, 3, 7), "c": torch.zeros(3, 3)}
    weights = bound(Trust(), THREE)(ledger(1, 1, 1, 1, rows=THREE), lesson(teachers=said))
    assert_close(weights[1:], torch.full((3, 3), 1 / 3))


def test_one_teacher_alone_has_weight_one_and_paths_do_not_compete():
    said = {"a": -RIGHT, "b": RIGHT}
    weights = bound(Trust())(ledger(1, 1, 1, 1), lesson(teachers=said))
    assert weights[3].eq(1).all()
    assert_close(weights[1] + weights[2], torch.ones(3))


def test_pixels_and_tokens_are_judged_over_the_positions_that_have_a_label():
    target = torch.tensor([[0, 1, 255], [2, 255, 255], [255, 255, 255]])
    first = torch.randn(3, 4, 3)
    second = torch.randn(3, 4, 3)
    rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
    book = ledger(1, 1, 1, rows=rows)
    weights = bound(Trust(), rows)(book, lesson(target, teachers={"a": first, "b": second}))
    doubts = [
        [-x.log_softmax(1)[b, target[b, i], i].item() for i in range(3) if target[b, i] != 255]
        for x in (first, second)
        for b in range(2)
    ]
    means = torch.tensor([sum(doubt) / len(doubt) for doubt in doubts]).reshape(2, 2)
    assert_close(weights[1:, :2], 1 - means.softmax(dim=0))
    assert_close(weights[1:, 2], torch.full((2,), 0.5))
    last = {"a": first.movedim(1, 2), "b": second.movedim(1, 2)}
    assert_close(bound(Trust(), rows)(book, lesson(target, teachers=last)), weights)


def test_mixed_labels_are_judged_by_their_mixture():
    said = {"a": torch.randn(3, 3), "b": torch.randn(3, 3)}
    mixture = torch.rand(3, 3).softmax(dim=1)
    rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
    weights = bound(Trust(), rows)(ledger(1, 1, 1, rows=rows), lesson(mixture, teachers=said))
    doubt = torch.stack([-(mixture * said[t].log_softmax(1)).sum(1) for t in "ab"])
    assert_close(weights[1:], 1 - doubt.softmax(dim=0))


DEEP = (Row("base"), Row("deep", "a"), Row("deep", "b"))


def features(**heads):
    adapted = {f"deep/{t}": torch.randn(3, 6, 2, 2, requires_grad=True) for t in "ab"}
    said = {"a": RIGHT, "b": -RIGHT}
    return lesson(teachers=said, adapted=adapted), {"heads": heads}


def test_feature_paths_are_judged_by_the_teachers_classifier_on_the_adapted_feature():
    heads = {t: nn.Linear(6, 3).requires_grad_(False) for t in "ab"}
    meeting, known = features(**heads)
    weights = bound(Trust(), DEEP, **known)(ledger(1, 1, 1, rows=DEEP), meeting)
    doubt = torch.stack(
        [
            nn.functional.cross_entropy(
                heads[t](meeting.adapted[f"deep/{t}"].mean((2, 3))), meeting.batch.target, reduction="none"
            )
            for t in "ab"
        ]
    )
    assert_close(weights[1:], (1 - doubt.softmax(dim=0)).detach())
    assert not weights.requires_grad


def test_rows_that_cannot_be_split_get_the_mean_of_their_shares():
    said = {t: torch.randn(3, 3) for t in "abc"}
    rows = (*THREE, *(Row("whole", t) for t in "abc"))
    book = ledger(*[1] * 7, rows=rows)
    weights = bound(Trust(), rows, batchwise=frozenset({"whole"}))(book, lesson(teachers=said))
    split = bound(Trust(), rows)(book, lesson(teachers=said))
    assert_close(weights[:4], split[:4])
    assert_close(weights[4:], split[4:].mean(dim=1, keepdim=True).expand(3, 3))
    assert_close(weights[4:].sum(dim=0), torch.ones(3))
    assert (split[4:].std(dim=1) > 0).any()


def test_rows_that_cannot_be_split_get_the_mean_of_absolute_trust_too():
    meeting = lesson(student=RIGHT * torch.tensor([[1.0], [0.0], [1.0]]), teachers={"a": torch.randn(3, 3)})
    rows = (Row("base"), Row("whole", "a"))
    one, each = (
        bound(Trust(absolute=True), rows, batchwise=known)(ledger(1, 1, rows=rows), meeting)[1]
        for known in (frozenset({"whole"}), frozenset())
    )
    assert each.std() > 0
    assert_close(one, each.mean().expand(3))


class Picky(Weighting):
    """Weighs single samples."""

    per_sample = True

    def forward(self, book, said):
        return torch.rand_like(book.losses)


@pytest.mark.parametrize("within", [False, True], ids=["alone", "in a product"])
def test_a_rule_that_weighs_single_samples_refuses_rows_that_cannot_be_split(within):
    rule = Product(Picky(), [Trust()]) if within else Picky()
    bound(rule, batchwise=frozenset({"elsewhere"}))
    with pytest.raises(RecipeError, match=r"path 'deep'.*one number for the whole batch, and Picky weighs single"):
        bound(rule, batchwise=frozenset({"deep"}))


@pytest.mark.parametrize(
    "rule", [Fixed(), Calibrate(), Adaptive(), Uncertainty(), Warmup(3), Trust(), Auto()], ids=repr
)
def test_all_other_rules_take_rows_that_cannot_be_split(rule):
    weights = bound(rule, batchwise=frozenset({"logits"}))(
        ledger(2, 4, 6, 8), lesson(teachers={"a": RIGHT, "b": -RIGHT})
    )
    assert_close(weights[1:3], weights[1:3].mean(dim=1, keepdim=True).expand_as(weights[1:3]))


def test_gradient_flows_through_the_weights_only_when_asked():
    meeting, known = features(a=nn.Linear(6, 3), b=nn.Linear(6, 3))
    weights = bound(Trust(through_weights=True), DEEP, **known)(ledger(1, 1, 1, rows=DEEP), meeting)
    (grad,) = torch.autograd.grad(weights[1].sum(), meeting.adapted["deep/a"])
    assert grad.ne(0).any()


@pytest.mark.parametrize(
    ("heads", "options"),
    [
        ({"a": nn.Linear(6, 3)}, {}),
        ({"a": nn.Linear(6, 3), "b": nn.Linear(9, 3)}, {}),
        ({"a": nn.Linear(6, 3), "b": nn.Linear(6, 3)}, {"on": "logits"}),
    ],
    ids=["one head is missing", "one head does not fit", "asked for"],
)
def test_feature_paths_fall_back_to_the_teachers_own_answers_together(heads, options):
    meeting, known = features(**heads)
    weights = bound(Trust(**options), DEEP, **known)(ledger(1, 1, 1, rows=DEEP), meeting)
    assert_close(weights[1], torch.ones(3), rtol=0, atol=1e-2)
    assert_close(weights[2], torch.zeros(3), rtol=0, atol=1e-2)


def test_absolute_trust_switches_off_all_teachers_the_student_has_overtaken():
    said = {"a": -RIGHT, "b": -RIGHT}
    rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
    book = ledger(1, 1, 1, rows=rows)
    ahead = bound(Trust(absolute=True), rows)(book, lesson(student=RIGHT, teachers=said))
    behind = bound(Trust(absolute=True), rows)(book, lesson(student=-2 * RIGHT, teachers=said))
    assert (ahead[1:] < 1e-3).all()
    assert_close(behind[1:], torch.full((2, 3), 0.5))


# Auto


def test_auto_gives_answers_four_times_the_weight_of_the_labels_and_features_half_after_the_warmup():
    rows = (Row("base"), Row("logits", "a"), Row("layer3", "a"), Row("layer4", "a"))
    rule = bound(Auto(warmup=2), rows, responses=frozenset({"logits"}))
    book, said = ledger(2, 4, 100, 0.001, rows=rows), lesson(teachers={"a": RIGHT})
    sizes = []
    for _ in range(3):
        sizes.append((rule(book, said) * book.losses).mean(dim=1))
        rule.after_step()
    assert_close(sizes[0], torch.tensor([2.0, 8.0, 0.0, 0.0]))
    assert_close(sizes[1], torch.tensor([2.0, 8.0, 0.25, 0.25]))
    assert_close(sizes[2], torch.tensor([2.0, 8.0, 0.5, 0.5]))


def test_auto_counts_several_teachers_of_a_path_once():
    rows = (Row("base"), *(Row("logits", t) for t in "abc"))
    rule = bound(Auto(), rows, responses=frozenset({"logits"}))
    book = ledger(2, 4, 4, 4, rows=rows)
    said = lesson(teachers={t: torch.randn(3, 3) for t in "abc"})
    assert_close((rule(book, said) * book.losses)[1:].sum(0), torch.full((3,), 8.0))


def test_auto_does_not_blow_up_a_teacher_that_says_next_to_nothing():
    rule = bound(Auto(), ROWS[:2], responses=frozenset({"logits"}))
    assert_close(rule(ledger(2, 1e-4), lesson(teachers={"a": RIGHT}))[1], torch.full((3,), 16.0))


def test_teachers_of_the_default_share_equally_or_each_has_the_whole():
    rows = (Row("base"), Row("logits", "a"), Row("logits", "b"))
    book = ledger(2.0, 1.0, 4.0, rows=rows)
    weights = {}
    for share in ("equal", "whole"):
        rule = bound(Auto(share=share), rows, responses=frozenset({"logits"}))
        weights[share] = rule(book, lesson()).mean(dim=1)
    assert_close(weights["equal"], torch.tensor([1.0, 1.6, 1.6]))  # 4 * 2 / 2.5, shared by two
    assert_close(weights["whole"][1:], 2 * weights["equal"][1:])
    with pytest.raises(InputError, match="'half'"):
        Auto(share="half")


@pytest.mark.parametrize("wrong", ["much", -1.0, float("nan"), float("inf"), None])
def test_a_weight_that_is_no_finite_number_is_refused(wrong):
    rows = (Row("base"), Row("logits", "big"))
    with pytest.raises(InputError, match=f"expected a finite number, 0 or more, for 'logits'; found {wrong!r}"):
        Fixed({"logits": wrong}).bind(rows, Spec(call=None, taps={}))
