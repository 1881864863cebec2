"""What every weighting promises, whichever it is."""

import copy
import dataclasses
import itertools

import pytest
import torch
from torch import nn

from tutelage import weighting
from tutelage.errors import RecipeError, UnknownName
from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
from tutelage.weighting import Weighting

NEEDED = {
    "ByGradient": {"rule": "mgda"},
    "Decay": {"steps": 3, "after": 9},
    "Route": {"by": "who"},
    "Warmup": {"steps": 3},
}
"""Arguments without a default."""
WEIGHS_THE_TASK = {
    "ByGradient",
    "GLS",
    "GradNorm",
    "IMTL",
    "Uncertainty",
}  # and says so
PER_SAMPLE = {"Auto", "Entropy", "Learned", "Meta", "Reliability", "Route", "Trust"}
MAY_BE_NEGATIVE = {"IMTL": "equal projections on all gradients can take a negative share of one of them"}
NAMES = [name for name in weighting.__all__ if name != "Weighting"]
ROWS = tuple(Row(*pair) for pair in [("base",), ("logits", "a"), ("logits", "b"), ("deep", "a"), ("deep", "b")])


CLASSES = 5
SPEC = Spec(
    held_out=True,
    call=lambda model, batch: model(batch.inputs.flatten(1)),
    taps={},
    classes=tuple("vwxyz"),
    heads={teacher: nn.Linear(6, CLASSES) for teacher in "abcdefg"},
    student=nn.Linear(12, CLASSES),
    reads={"logits": ""},
    responses=frozenset({"logits"}),
)


def build(name: str, rows: tuple[Row, ...] = ROWS, **options) -> Weighting:
    rule = getattr(weighting, name)(**NEEDED.get(name, {}) | options)
    rule.bind(rows, SPEC)
    return rule


def meet(rows: tuple[Row, ...] = ROWS, samples: int = 4) -> tuple[Ledger, Lesson]:
    index = torch.arange(samples)
    teachers = dict.fromkeys(row.teacher for row in rows if row.teacher) or [None]
    batch = Batch(
        inputs=torch.rand(samples, 3, 2, 2),
        target=torch.randint(CLASSES, (samples,)),
        index=index,
        view=torch.zeros_like(index),
        labelled=torch.ones(samples, dtype=torch.bool),
        extras={"who": list(itertools.islice(itertools.cycle(teachers), samples))},
    )
    said = {row.teacher: {"": torch.randn(samples, CLASSES)} for row in rows if row.teacher}
    adapted = {row.name: torch.randn(samples, 6, 2, 2, requires_grad=True) for row in rows if row.teacher}
    student = {"": SPEC.student(batch.inputs.flatten(1))}
    pull = torch.randn(len(rows), 1, CLASSES)
    losses = torch.rand(len(rows), samples).mul(3).add(0.1) + (student[""] * pull).sum(dim=2).sigmoid()
    return Ledger(rows, losses), Lesson(batch, student, said, adapted)


def shuffled(ledger: Ledger, lesson: Lesson, order: torch.Tensor) -> tuple[Ledger, Lesson]:
    old = lesson.batch
    extras = {name: [column[b] for b in order.tolist()] for name, column in old.extras.items()}
    batch = Batch(old.inputs[order], old.target[order], old.index[order], old.view[order], old.labelled[order], extras)
    said = {name: {tap: x[order] for tap, x in taps.items()} for name, taps in lesson.teachers.items()}
    student = {tap: x[order] for tap, x in lesson.student.items()}
    adapted = {name: x[order] for name, x in lesson.adapted.items()}
    return Ledger(ledger.rows, ledger.losses[:, order]), Lesson(batch, student, said, adapted)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_list_of_names_is_exact():
    public = {k for k, v in vars(weighting).items() if isinstance(v, type) and issubclass(v, Weighting)}
    assert public == set(weighting.__all__)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_are_finite_never_negative_and_one_for_each_row_or_entry(name, dtype):
    rule, (ledger, lesson) = build(name), meet()
    weights = rule(Ledger(ledger.rows, ledger.losses.to(dtype)), lesson)
    assert weights.dtype == dtype
    assert weights.shape in [(5, 1), (5, 4)]
    assert weights.isfinite().all()
    assert (weights >= 0).all() or name in MAY_BE_NEGATIVE


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_losses_of_any_size_give_finite_weights(name, size):
    rule, (ledger, lesson) = build(name), meet()
    weights = rule(Ledger(ledger.rows, ledger.losses * torch.tensor([[1.0], [size], [1], [size], [1]])), lesson)
    assert weights.isfinite().all()


def test_rows_of_the_task_have_weight_one(name):
    if name in WEIGHS_THE_TASK:
        pytest.skip("this rule weighs the task's rows, too, and says so")
    assert build(name)(*meet())[0].eq(1).all()


def test_no_gradient_reaches_the_losses_through_the_weights(name):
    rule, (ledger, lesson) = build(name), meet()
    weights = rule(ledger, lesson)
    if weights.requires_grad:
        assert torch.autograd.grad(weights.sum(), ledger.losses, allow_unused=True) == (None,)


def test_gradient_reaches_every_parameter_of_the_rule(name):
    rule, (ledger, lesson) = build(name), meet()
    loss = (rule(ledger, lesson) * ledger.losses).mean() + rule.penalty()
    if any(True for _ in rule.parameters()):
        assert all(grad.ne(0).all() for grad in torch.autograd.grad(loss, list(rule.parameters())))


def test_weights_follow_the_samples_when_the_batch_is_shuffled(name):
    order = torch.tensor([2, 0, 3, 1])
    ledger, lesson = meet()
    rule = build(name).eval()
    here, there = rule(ledger, lesson), rule(*shuffled(ledger, lesson, order))
    if name in PER_SAMPLE:
        assert not torch.allclose(here[:, :1], here)
    torch.testing.assert_close(there, here[:, order] if here.shape[1] > 1 else here)


@pytest.mark.parametrize("taught", [(), (Row("logits", "a"),)], ids=["no teacher", "one teacher, one path"])
def test_few_rows_are_enough(name, taught):
    rows = (Row("base"), *taught)
    weights = build(name, rows)(*meet(rows))
    assert weights.shape[0] == len(rows)
    assert weights.isfinite().all()


def test_fifty_rows_are_not_too_many(name):
    rows = (Row("base"), *(Row(f"path{p}", t) for p in range(7) for t in "abcdefg"))
    weights = build(name, rows)(*meet(rows))
    assert weights.shape[0] == 50
    assert weights.isfinite().all()


def test_one_sample_is_enough(name):
    assert build(name)(*meet(samples=1)).shape == (5, 1)


def test_without_labels_and_without_a_task_loss_weights_stay_finite(name):
    rule, (ledger, lesson) = build(name), meet()
    losses = ledger.losses.detach().clone()
    losses[0] = 0
    lesson.batch.labelled[:] = False
    lesson.batch.target[:] = -1
    assert rule(Ledger(ledger.rows, losses), lesson).isfinite().all()


def test_a_rule_that_needs_labels_is_refused_where_there_are_none(name):
    rule, unlabelled = getattr(weighting, name)(**NEEDED.get(name, {})), dataclasses.replace(SPEC, labelled=False)
    if not rule.needs_labels:
        rule.bind(ROWS, unlabelled)
        return
    with pytest.raises(RecipeError, match=f"{name} goes by the labels"):
        rule.bind(ROWS, unlabelled)


def test_a_saved_state_gives_the_same_weights(name):
    rule = build(name)
    for _ in range(3):
        loss = (rule(*meet()) * meet()[0].losses).mean() + rule.penalty()
        if any(True for _ in rule.parameters()):
            loss.backward()
            torch.optim.SGD(rule.parameters(), lr=0.1).step()
        rule.after_step(lambda batch, params=None: meet()[0])
    rule.end_epoch()
    ledger, lesson = meet()
    other = build(name)
    other.load_state_dict(copy.deepcopy(rule.state_dict()))
    torch.testing.assert_close(other.eval()(ledger, lesson), rule.eval()(ledger, lesson), rtol=0, atol=0)


def test_a_copy_is_independent(name):
    rule = build(name)
    twin, before = copy.deepcopy(rule), {k: v.clone() for k, v in rule.state_dict().items()}
    twin(*meet())
    twin.after_step(lambda batch, params=None: meet()[0])
    assert all(torch.equal(rule.state_dict()[k], v) for k, v in before.items())


def test_binding_again_starts_anew(name):
    rule = build(name)
    rule(*meet())
    rows = ROWS[:3]
    rule.bind(rows, SPEC)
    assert rule(*meet(rows)).shape[0] == 3


@pytest.mark.parametrize(
    "misspelt",
    [
        weighting.Fixed({"logitz": 1.0}),
        weighting.Fixed({"deep/c": 1.0}),
        weighting.Fixed({"base": 1.0}),
        weighting.Calibrate({"logitz": 1.0}),
        weighting.Calibrate(limit={"logitz": 2.0}),
        weighting.Warmup(3, paths=["logitz"]),
        weighting.Decay(3, paths=["logitz"]),
        weighting.Product(weighting.Fixed({"logitz": 1.0})),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_a_misspelt_name_is_refused_at_build(misspelt):
    with pytest.raises(UnknownName, match=r"close: |there are: "):
        misspelt.bind(ROWS, SPEC)
