"""Learned scales: what they learn from, beside gates and beside rows that say nothing."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.ledger import Ledger, Row, Spec
from tutelage.weighting import IMTL, Adaptive, Decay, Product, Uncertainty, Warmup, Weighting

ROWS = (Row("base"), Row("logits", "a"), Row("logits", "b"), Row("deep", "a"))
SIZES = (1.5, 0.2, 3.0, 30.0)
SCALES = {
    "path": Adaptive,
    "row": lambda **options: Adaptive(per="row", distill_weight=0.5, **options),
    "uncertainty": lambda **options: Uncertainty(**{"init": 0.0, **options}),
    "imtl": IMTL,
    "imtl_by_path": lambda **options: IMTL(by="path", **options),
}
scales = pytest.mark.parametrize("name", SCALES)


class Opening(Weighting):
    """A gate that is shut for a while."""

    kind = "gate"

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.step = after, 0

    def forward(self, ledger, lesson):
        return torch.tensor([1.0, *[float(self.step >= self.after)] * (len(ledger.rows) - 1)])[:, None]

    def after_step(self, probe=None):
        self.step += 1


def learn(name, sizes=SIZES, gates=(), steps=0, **options):
    """The weights of each step, ``[K, steps + 1]``, while a scale learns from losses of these sizes, and the scale."""
    scale, student = SCALES[name](**options), nn.Linear(len(ROWS), 1, bias=False)
    nn.init.zeros_(student.weight)
    rule = Product(scale, gates)
    rule.bind(ROWS, Spec(call=None, taps={}, student=student))
    sizes = torch.as_tensor(sizes)
    sizes = sizes if sizes.ndim == 2 else sizes[:, None].expand(-1, 3)
    seen, optimizer = [], torch.optim.SGD(rule.parameters(), lr=0.02)
    for step in range(steps + 1):
        ledger = Ledger(ROWS, sizes + student.weight.T)
        weights = rule(ledger, None)
        seen.append(weights.detach().amax(dim=1))
        loss = torch.where(weights == 0, 0.0, weights * ledger.losses).sum(dim=0).mean() + rule.penalty()
        if step < steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rule.after_step()
    return torch.stack(seen, dim=1), scale, loss


def logarithm(scale):
    (own,) = scale.parameters()
    return own.detach()


@scales
def test_alone_value_and_gradient_are_those_of_the_equation(name):
    _, scale, loss = learn(name)
    (own,) = scale.parameters()
    (found,) = torch.autograd.grad(loss, own)
    s, (base, a, b, deep) = torch.zeros_like(own).requires_grad_(), SIZES
    L = torch.tensor([a + b, deep] if name == "path" else [a, b, deep] if name == "row" else SIZES)
    if name == "imtl_by_path":
        L = torch.tensor([base, a + b, deep])
    expected = {
        "path": base + ((-s).exp() * L + s).sum(),
        "row": base + 0.5 * ((-s).exp() * L + s).sum(),
        "uncertainty": (L / (2 * s.exp()) + s / 2).sum(),
    }.get(name, (s.exp() * L - s).sum())
    assert_close(found, torch.autograd.grad(expected, s)[0])
    if not name.startswith("imtl"):  # there the student hears other weights
        assert_close(loss, expected)


@scales
def test_a_gate_that_stays_takes_its_part_of_what_the_scale_alone_would_give(name):
    alone, _, _ = learn(name, steps=50)
    gated, _, _ = learn(name, gates=[Decay(0, end=0.1)], steps=50)
    assert_close(gated[0], alone[0])
    assert_close(gated[1:], 0.1 * alone[1:])


def test_at_rest_a_row_behind_a_gate_pulls_as_hard_as_the_gate_lets_it():
    weights, _, _ = learn("path", gates=[Decay(0, end=0.1)], steps=1000)
    assert_close(weights[1:, -1], torch.tensor([0.1 / 3.2, 0.1 / 3.2, 0.1 / 30.0]), rtol=1e-3, atol=0)


@scales
def test_warmup_fades_in_whatever_the_scale_has_learned(name):
    alone, _, _ = learn(name, steps=30)
    gated, _, _ = learn(name, gates=[Warmup(20)], steps=30)
    assert_close(gated[1:], alone[1:] * (torch.arange(31) / 20).clamp(max=1.0))


@scales
def test_a_gate_that_opens_late_finds_the_scale_as_if_it_had_been_open(name):
    alone, _, _ = learn(name, steps=300)
    gated, _, _ = learn(name, gates=[Opening(300)], steps=300)
    assert gated[1:, :300].eq(0).all()
    assert_close(gated[:, 300], alone[:, 300])


@scales
@pytest.mark.parametrize("silent", [math.nan, math.inf, 0.0], ids=["nan", "inf", "absent"])
def test_a_row_that_says_nothing_leaves_its_scale_where_it_is_and_the_others_as_they_are(name, silent):
    _, known, _ = learn(name, steps=20, init=0.5)
    _, found, loss = learn(name, (*SIZES[:3], silent), steps=20, init=0.5)
    assert_close(logarithm(found)[-1], torch.tensor(0.5))
    assert_close(logarithm(found)[:-1], logarithm(known)[:-1])
    assert loss.isfinite()


def test_a_teacher_that_says_nothing_leaves_the_scale_of_its_path_to_the_others():
    _, scale, _ = learn("path", (1.5, 0.2, math.nan, 30.0), steps=1000)
    assert_close(logarithm(scale).exp(), torch.tensor([0.2, 30.0]), rtol=1e-3, atol=0)


def test_samples_that_say_nothing_do_not_make_a_row_smaller():
    sizes = torch.tensor(SIZES)[:, None].repeat(1, 3)
    sizes[3, 1:] = math.nan
    _, scale, _ = learn("path", sizes, steps=1000)
    assert_close(logarithm(scale).exp(), torch.tensor([3.2, 30.0]), rtol=1e-3, atol=0)


@scales
def test_a_learned_scale_remembers_nothing_but_what_it_learned(name):
    _, scale, _ = learn(name, steps=3)
    more = {"_extra_state", "weights"} if name.startswith("imtl") else set()
    assert set(scale.state_dict()) - more == {"log_variance" if name == "uncertainty" else "log_scale"}
