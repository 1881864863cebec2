"""Weights from gradients: what is differentiated, what is left out, and what the ordinary backward then yields."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.connectors import Project
from tutelage.errors import InputError, RecipeError, TapNotFound, UnknownName
from tutelage.ledger import Batch, Ledger, Lesson, Row, Spec
from tutelage.losses import kl, mse
from tutelage.tasks import Classification
from tutelage.weighting import AEKD, IMTL, ByGradient, Fixed, GradNorm, Guard, Product, Trust
from tutelage.weighting.gramian import gramian, row_gradients
from tutelage.weighting.solvers import MGDA, GradVac, PCGrad, UPGrad

ROWS = (Row("base"), Row("logits", "a"), Row("logits", "b"), Row("deep", "a"))
NAN = float("nan")
KEEP = {"retain_graph": True, "materialize_grads": True}


class Net(nn.Sequential):
    def __init__(self, width: int, norm: bool = False) -> None:
        norms = [nn.BatchNorm1d(width)] if norm else []
        super().__init__(nn.Flatten(), nn.Linear(12, width), *norms, nn.Tanh(), nn.Linear(width, 3))


def batch(size=6):
    return Classification(3).unpack((torch.rand(size, 3, 2, 2), torch.arange(size) % 3))


def distiller(weighting, norm=True, **options):
    paths = {"logits": Path(kl), "deep": Path(mse, student="1", teacher="1", connector=Project(), teachers=["a"])}
    teachers = {"a": Frozen(Net(8)), "b": Frozen(Net(6))}
    return Distiller(
        Net(5, norm),
        teachers=teachers,
        paths=paths,
        task=Classification(3),
        weighting=weighting,
        example=batch(),
        **options,
    )


def point(rows, gradients, losses=None):
    """A ledger whose rows have these gradients in a student of one vector, and the spec that knows it."""
    student = nn.Linear(gradients.shape[1], 1, bias=False)
    nn.init.zeros_(student.weight)
    values = torch.ones(len(gradients)) if losses is None else losses
    each = tuple(
        (value + (pull * student.weight[0]).sum())[None] for value, pull in zip(values, gradients, strict=True)
    )
    ledger = Ledger(rows[: len(gradients)], torch.stack(each), each)
    return ledger, Spec(call=None, taps={}, student=student)


def direction(made, given):
    """The gradient that the ordinary backward leaves in the student, and the step."""
    made.zero_grad()
    step = made(given)
    step.loss.backward()
    return torch.cat([p.grad.flatten() for p in made.student.parameters()]), step


def by_hand(step, student, paths=None):
    """The gradients of the rows, one backward each."""
    parameters = list(student.parameters())
    return torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(row.mean(), parameters, **KEEP)])
            for row in step.ledger.losses
        ]
    )


@pytest.mark.parametrize("rule", ["mgda", "upgrad", "imtl_g", "aligned_mtl", "cagrad"])
def test_the_ordinary_backward_yields_the_solvers_direction(rule):
    made, given = distiller(ByGradient(rule)), batch()
    rows = by_hand(made(given), made.student)
    got, step = direction(made, given)
    square = (rows @ rows.T).double()
    weights = made.weighting.rule(square / square.diagonal().mean()).float()
    assert_close(got, weights @ rows, rtol=1e-4, atol=1e-6)
    assert_close(step.weights, weights[:, None].expand_as(step.weights), rtol=1e-3, atol=1e-5)


def test_torchjds_own_jacobian_path_gives_the_same_gradient():
    torchjd = pytest.importorskip("torchjd.autojac")
    from torchjd.aggregation import AlignedMTL

    made, given = distiller(ByGradient("aligned_mtl")), batch()
    got, _ = direction(made, given)
    parameters = list(made.student.parameters())
    made.zero_grad()
    losses = made(given).ledger.losses.mean(dim=1)
    torchjd.backward(list(losses), inputs=parameters, parallel_chunk_size=1)
    torchjd.jac_to_grad(parameters, AlignedMTL())
    theirs = torch.cat([p.grad.flatten() for p in parameters])
    assert_close(got, theirs * len(losses), rtol=1e-4, atol=1e-6)


def test_connectors_are_left_out_and_still_learn():
    made = distiller(ByGradient("mgda"))
    given = batch()
    rows = by_hand(made(given), made.student)
    _, step = direction(made, given)
    assert_close(step.weights[:, 0], MGDA()(rows @ rows.T).float(), rtol=1e-3, atol=1e-4)
    assert all(p.grad.abs().sum() > 0 for name, p in made.paths.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize(
    "rule", ["mgda", "pcgrad", "agem", "cagrad", "imtl_g", "gradvac", "aligned_mtl", "nash_mtl", "fair_grad"]
)
def test_a_factor_common_to_all_losses_does_not_move_the_weights(rule):
    gradients = torch.randn(4, 6)
    weights = []
    for size in (1.0, 1024.0, 1e-6):
        made = ByGradient(rule)
        ledger, spec = point(ROWS, gradients * size, torch.ones(4) * size)
        made.bind(ROWS, spec)
        weights.append(made(ledger, None))
    assert_close(weights[1], weights[0])
    assert_close(weights[2], weights[0])


def test_rows_of_a_path_share_a_weight_when_asked():
    gradients = torch.randn(4, 6)
    ledger, spec = point(ROWS, gradients)
    made = ByGradient("mgda", by="path")
    made.bind(ROWS, spec)
    weights = made(ledger, None)[:, 0]
    grouped = torch.stack([gradients[0], gradients[1] + gradients[2], gradients[3]])
    expected = MGDA()(grouped @ grouped.T).float()
    assert_close(weights, expected[[0, 1, 1, 2]])


def test_a_task_of_several_losses_is_protected_as_a_whole():
    rows = (Row("classification"), Row("boxes"), Row("logits", "a"))
    gradients = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]])
    ledger, spec = point(rows, gradients)
    made = ByGradient("agem")
    made.bind(rows, spec)
    assert_close(made(ledger, None)[:, 0], torch.tensor([1.5, 1.5, 1.0]))  # along (1, 1) the last row has -1


def test_weights_stay_between_decisions_and_after_a_checkpoint_too():
    made = ByGradient("mgda", every=3)
    _, spec = point(ROWS, torch.randn(4, 6))
    made.bind(ROWS, spec)
    seen = []
    for step in range(5):
        if step == 2:
            state, made = made.state_dict(), ByGradient("mgda", every=3)
            made.bind(ROWS, spec)
            made.load_state_dict(state)
        ledger, known = point(ROWS, torch.randn(4, 6))
        made._student = (known.student,)
        seen.append(made(ledger, None)[:, 0].clone())
        made.after_step()
    assert_close(seen[0], seen[1])
    assert_close(seen[0], seen[2])
    assert not torch.allclose(seen[2], seen[3])
    assert_close(seen[3], seen[4])


def test_in_evaluation_and_without_gradients_the_newest_weights_are_given():
    made, given = distiller(ByGradient("mgda")), batch()
    assert made.measure(given) is not None
    assert made.weighting.weights.eq(1).all()
    newest = made(given).weights
    with torch.no_grad():
        assert_close(made(batch()).weights, newest)
    assert_close(made.eval()(batch()).weights, newest)


def test_a_row_that_is_not_finite_has_weight_zero_and_the_task_is_seen():
    gradients = torch.randn(4, 6)
    gradients[2] = NAN
    ledger, spec = point(ROWS, gradients)
    made = ByGradient("mgda")
    made.bind(ROWS, spec)
    weights = made(ledger, None)[:, 0]
    kept = gradients[[0, 1, 3]]
    assert weights[2] == 0
    assert_close(weights[[0, 1, 3]], MGDA()(kept @ kept.T).float())
    ledger, spec = point(ROWS, torch.randn(4, 6), torch.tensor([NAN, 1, 1, 1]))
    made.bind(ROWS, spec)
    gradients = torch.randn(4, 6)
    gradients[0] = NAN
    ledger, spec = point(ROWS, gradients)
    made.bind(ROWS, spec)
    assert made(ledger, None)[0].eq(1).all()


def test_a_row_without_gradient_keeps_its_weight_and_takes_nothing_from_the_others():
    gradients = torch.randn(4, 6)
    gradients[3] = 0
    ledger, spec = point(ROWS, gradients)
    made = ByGradient("mgda")
    made.bind(ROWS, spec)
    weights = made(ledger, None)[:, 0]
    assert weights[3] == 1
    assert_close(weights[:3].sum(), torch.tensor(1.0))


def test_negative_weights_are_raised_to_zero_when_asked():
    gradients = torch.tensor([[1.0, 0.0], [1.0, 0.01], [1.0, 0.02]]) * torch.tensor([[1.0], [1.0], [3.0]])
    signed, clamped = ByGradient("aligned_mtl"), ByGradient("aligned_mtl", clamp=True)
    ledger, spec = point(ROWS, gradients)
    for made in (signed, clamped):
        made.bind(ROWS[:3], spec)
    assert (signed(ledger, None) < 0).any()
    assert_close(clamped(ledger, None), signed(ledger, None).clamp(min=0))


def test_state_of_a_solver_follows_the_rows_when_some_are_left_out():
    made = ByGradient(GradVac(decay=1.0))
    gradients = torch.randn(4, 6)
    ledger, spec = point(ROWS, gradients)
    made.bind(ROWS, spec)
    lost = gradients.clone()
    lost[1] = NAN
    ledger, spec = point(ROWS, lost)
    made._student = (spec.student,)
    made(ledger, None)
    assert (made.rule.cosine[1] == 0).all()
    assert (made.rule.cosine[[0, 2, 3]][:, [0, 2, 3]].fill_diagonal_(1) != 0).all()


# With respect to a tap


def test_gradients_at_a_tap_are_those_of_the_tap_from_the_first_forward_on():
    made, given = distiller(ByGradient("mgda", wrt="1")), batch()
    first, second = made(given), made(given)  # the first one reads copies
    tap = second.lesson.student["1"]
    rows = torch.stack([torch.autograd.grad(row.mean(), tap, **KEEP)[0].flatten() for row in second.ledger.losses])
    expected = MGDA()(rows @ rows.T).float()
    assert_close(first.weights[:, 0], expected, rtol=1e-3, atol=1e-4)
    assert_close(second.weights[:, 0], expected, rtol=1e-3, atol=1e-4)


def test_a_tap_that_no_path_reads_is_read_too_and_one_that_does_not_exist_is_refused():
    made = distiller(Product(ByGradient("mgda", wrt="3")))
    assert "3" in made(batch()).lesson.student
    with pytest.raises(TapNotFound, match="layer9"):
        distiller(ByGradient("mgda", wrt="layer9"))
    with pytest.raises(RecipeError, match="expected a tap behind layers that are trained; found wrt='0'"):
        distiller(ByGradient("mgda", wrt="0"))(batch())


def test_rows_that_do_not_pass_through_the_tap_are_not_weighed():
    made = distiller(ByGradient("mgda", wrt=""))
    weights = made(batch()).weights[:, 0]
    assert weights[3] == 1
    assert_close(weights[:3].sum(), torch.tensor(1.0))


# Compiled and in lower precision


def test_a_compiled_student_is_differentiated_row_by_row():
    given, net = batch(), Net(5)
    teachers = {name: Frozen(Net(8)) for name in "ab"}
    plain, compiled = (
        Distiller(
            net,
            teachers=teachers,
            paths={"logits": Path(kl)},
            task=Classification(3),
            weighting=ByGradient("mgda"),
            compile=compile,
        )
        for compile in (False, True)
    )
    expected, step = direction(plain, given)
    got, other = direction(compiled, given)
    assert compiled.__dict__["trained"] is not net
    assert_close(other.weights, step.weights, rtol=1e-3, atol=1e-4)
    assert_close(got, expected, rtol=1e-3, atol=1e-5)


def test_backward_code_that_ordinary_training_left_on_disk_is_not_taken_for_two_gradients(tmp_path, monkeypatch):
    import torch._functorch.config as functorch
    import torch.compiler.config as compiler

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    class Convolutions(nn.Sequential):
        def __init__(self):
            blocks = [(nn.Conv1d(c, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU()) for c in (1, 4)]
            super().__init__(
                nn.Flatten(), nn.Unflatten(1, (1, 12)), *blocks[0], *blocks[1], nn.Flatten(), nn.Linear(48, 3)
            )

    given = batch(64)

    def trained(weighting, compile):
        torch.manual_seed(0)
        parts = {"teachers": {"a": Frozen(Net(8))}, "paths": {"logits": Path(kl)}, "task": Classification(3)}
        made = Distiller(Convolutions(), **parts, weighting=weighting, compile=compile)
        return direction(made, given)[0]

    with functorch.patch(donated_buffer=True), compiler.patch(cache_key_tag=""):  # as where no such rule was built yet
        trained(Fixed(), compile=True)
        assert_close(trained(ByGradient("mgda"), True), trained(ByGradient("mgda"), False), rtol=1e-3, atol=1e-5)


def test_autocast_gives_weights_too():
    made = distiller(ByGradient("mgda"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = made(batch())
    step.loss.backward()
    assert_close(step.weights[:, 0].sum(), torch.tensor(1.0))


# Beside other rules


def test_a_gate_multiplies_what_the_gradients_say():
    made = distiller(Product(ByGradient("mgda"), [Trust()]))
    step = made(batch())
    assert_close(
        step.weights, made.weighting.scales[0].weights[:, None] * made.weighting.gates[0](step.ledger, step.lesson)
    )


# Built


def test_a_rule_may_be_a_name_a_name_with_options_a_solver_or_any_module():
    class Halves(nn.Module):
        def forward(self, products):
            return torch.full((len(products),), 0.5)

    assert isinstance(ByGradient("PC_Grad").rule, PCGrad)
    assert ByGradient({"use": "mgda", "normaliser": "l2"}).rule.normaliser == "l2"
    assert isinstance(ByGradient(UPGrad()).rule, UPGrad)
    ledger, spec = point(ROWS, torch.randn(4, 6))
    made = ByGradient(Halves())
    made.bind(ROWS, spec)
    assert made(ledger, None).eq(0.5).all()


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: ByGradient("mgda", wrt="1:pooled"), InputError, "made for reading alone"),
        (lambda: ByGradient("mgda", wrt="1:rms"), InputError, "made for reading alone"),
        (lambda: distiller(ByGradient("mgda", wrt="1"), compile=True), RecipeError, "Train without compile"),
        (lambda: ByGradient("mgada"), UnknownName, "no rule 'mgada'; close: mgda"),
        (lambda: ByGradient({"use": "mgda", "normalizer": "l2"}), UnknownName, "close: normaliser"),
        (lambda: ByGradient({"use": "nash_mtl", "fairness": 2}), UnknownName, "no option 'fairness'"),
        (lambda: ByGradient("mgda", by="teacher"), InputError, "by='row' or 'path'"),
        (lambda: ByGradient("mgda", every=0), InputError, "every to be at least 1"),
        (lambda: IMTL(init=20), InputError, "init within it"),
        (lambda: GradNorm(steps=0), InputError, "steps of at least 1"),
        (lambda: AEKD(limit=0), InputError, "limit above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_when_built(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_a_student_with_nothing_to_train_is_refused_at_build():
    with pytest.raises(RecipeError, match="expected a student to train; found one without"):
        ByGradient("mgda").bind(ROWS, Spec(call=None, taps={}, student=nn.Flatten()))
    with pytest.raises(RecipeError, match="found none"):
        ByGradient("mgda").bind(ROWS, Spec(call=None, taps={}))
    with pytest.raises(RecipeError, match=r"AGEM protects the task's gradient; expected labels, found none"):
        ByGradient("agem").bind(ROWS, Spec(call=None, taps={}, student=nn.Linear(2, 2), labelled=False))


def test_parameters_of_the_student_are_not_parameters_of_the_rule():
    made = distiller(ByGradient("mgda"))
    assert not list(made.weighting.parameters())
    assert set(made.weighting.state_dict()) == {"weights", "_extra_state"}


def test_gradients_of_any_size_have_their_inner_products():
    gradients = torch.tensor([[3e30, 0.0], [1e-30, 1e-30], [0.0, 0.0]])
    products = gramian(gradients)
    assert_close(products[0, 1], torch.tensor(3.0, dtype=torch.float64))
    assert_close(products[1, 1], torch.tensor(2e-60, dtype=torch.float64), rtol=1e-6, atol=0)
    assert gramian(torch.tensor([[1.0, NAN], [1.0, 1.0]]))[0].isnan().all()


@pytest.mark.parametrize("size", [4, 37, 4096])
def test_equal_gradients_have_equal_products_to_the_last_digit(size):
    gradients = torch.randn(7, size)[[0, 1, 1, 2, 3, 1, 2]]
    products = gramian(gradients)
    for one, other in ((1, 2), (1, 5), (3, 6)):
        assert torch.equal(products[one], products[other])
        assert torch.equal(products[:, one], products[:, other])
    nearly = gradients[:2].clone()
    nearly[1] = nearly[0] * (1 + 1e-6)
    assert gramian(nearly)[1, 1] != gramian(nearly)[0, 0]


def test_row_gradients_leave_no_gradient_behind():
    made, given = distiller(ByGradient("mgda")), batch()
    made(given)
    assert all(p.grad is None for p in made.parameters())
    x = torch.ones(2, requires_grad=True)
    assert not row_gradients([x.sum()], [x]).requires_grad


# IMTL


def test_imtl_brings_losses_to_one_size_at_rest():
    rule = IMTL()
    student = nn.Linear(3, 1, bias=False)
    rule.bind(ROWS[:2], Spec(call=None, taps={}, student=student))
    sizes = torch.tensor([[2.0], [50.0]])
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.02)
    for _ in range(600):
        ledger = Ledger(ROWS[:2], sizes + (torch.eye(2, 3) @ student.weight[0] * 0)[:, None])
        loss = (rule(ledger, None) * ledger.losses).sum(dim=0).mean() + rule.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rule.after_step()
    assert_close((rule.log_scale.exp() * sizes[:, 0]).detach(), torch.ones(2), rtol=1e-2, atol=0)


# GradNorm


def test_gradnorm_makes_weighted_gradients_equally_long_where_all_learn_alike():
    rule, gradients = GradNorm(), torch.diag(torch.tensor([1.0, 4.0, 2.0]))
    ledger, spec = point(ROWS, gradients)
    rule.bind(ROWS[:3], spec)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.02)
    for _ in range(400):
        weights = rule(ledger, None)[:, 0]
        optimizer.zero_grad()
        rule.penalty().backward()
        optimizer.step()
        rule.after_step()
    lengths = weights * torch.tensor([1.0, 4.0, 2.0])
    assert_close(lengths, lengths.mean().expand(3), rtol=0.1, atol=0)
    assert_close(weights.sum(), torch.tensor(3.0))


def test_gradnorm_moves_only_when_it_decides_and_pulls_at_slow_rows():
    rule = GradNorm(every=2, steps=1)
    ledger, spec = point(ROWS, torch.eye(2))
    rule.bind(ROWS[:2], spec)
    rule(ledger, None)
    rule.after_step()
    rule(ledger, None)
    assert rule.penalty() == 0
    rule.after_step()
    slow, _ = point(ROWS, torch.eye(2), torch.tensor([1.0, 0.1]))
    rule._student = (spec.student,)
    rule(Ledger(ROWS[:2], slow.losses + (torch.eye(2) @ spec.student.weight[0])[:, None]), None)
    (slope,) = torch.autograd.grad(rule.penalty(), rule.preference)
    assert slope[0] < 0 < slope[1]


# AEKD


def agreed(losses, said, limit=0.6, tap="", **options):
    rows = (Row("base"), *(Row("logits", name) for name in "abc"[: len(losses)]))
    rule = AEKD(limit=limit, **options)
    rule.bind(rows, Spec(call=None, taps={}, reads={"logits": tap}))
    zeros = torch.zeros(len(said))
    known = Batch(zeros, zeros, zeros, zeros, zeros.bool())
    each = (said.flatten(1).sum(dim=1), *losses)
    ledger = Ledger(rows, torch.stack(each), each)
    return rule, rule(ledger, Lesson(known, {tap: said}, {}, {}))[:, 0]


def test_aekd_is_the_shortest_mixture_of_the_batch_means_under_the_limit():
    said, other = torch.randn(5, 4, requires_grad=True), torch.randn(3, 5, 4)
    losses = [kl(said, teacher) for teacher in other]
    means = torch.stack([torch.autograd.grad(x.mean(), said, retain_graph=True)[0].mean(dim=0) for x in losses])
    _, weights = agreed(losses, said)
    best = min(
        ((a, b, 1 - a - b) for a in torch.linspace(0, 0.6, 61) for b in torch.linspace(0, 0.6, 61) if a + b >= 0.4),
        key=lambda mixture: float((torch.tensor(mixture) @ means).norm()),
    )
    assert_close(weights[1:], torch.tensor(best), rtol=0, atol=0.02)
    assert_close(weights[1:].sum(), torch.tensor(1.0))
    assert weights[0] == 1


def test_aekd_needs_no_network_and_leaves_no_gradient():
    said = torch.randn(5, 4, requires_grad=True)
    rule, weights = agreed([kl(said, torch.randn(5, 4)) for _ in range(2)], said)
    assert said.grad is None
    assert not weights.requires_grad
    assert_close(rule.eval().shares, weights)


def test_aekd_gives_nothing_to_a_teacher_that_is_not_finite_and_equal_shares_to_twins():
    said = torch.randn(5, 4, requires_grad=True)
    twin = torch.randn(5, 4)
    losses = [kl(said, twin), kl(said, torch.full((5, 4), NAN)), kl(said, twin)]
    assert_close(agreed(losses, said, limit=1.0)[1], torch.tensor([1.0, 0.5, 0.0, 0.5]))


@pytest.mark.parametrize("limit", [0.6, 1.0])
def test_aekd_shares_among_those_that_reach_the_student(limit):
    said, other = torch.randn(5, 4, requires_grad=True), torch.randn(3, 5, 4)
    losses = [kl(said, teacher) for teacher in other]
    _, expected = agreed([losses[0], losses[2]], said, limit)
    _, weights = agreed([losses[0], kl(said.detach(), other[1]), losses[2]], said, limit)
    assert_close(weights, torch.stack([*expected[:2], torch.tensor(0.0), expected[2]]))


@pytest.mark.parametrize("limit", [0.6, 1.0])
def test_aekd_gives_the_whole_path_to_the_teacher_that_a_guard_leaves(limit):
    made = distiller(Product((), [AEKD(limit=limit), Guard()]), held_out=lambda number: batch())
    guard = made.weighting.gates[1]
    for shut, shares in ((2, [1.0, 0.0]), (1, [0.0, 1.0])):
        guard.shut[:] = False
        guard.shut[shut], guard._off = True, None
        assert_close(made(batch()).weights[1:3].mean(dim=1), torch.tensor(shares))


@pytest.mark.parametrize("lost", [0.0, NAN], ids=["no gradient", "not finite"])
def test_aekd_keeps_its_shares_where_no_teacher_reaches_the_student(lost):
    said = torch.randn(5, 4, requires_grad=True)
    rule, shares = agreed([kl(said, torch.randn(5, 4)) for _ in range(2)], said)
    ledger = Ledger(ROWS[:3], said.sum(dim=1) * torch.tensor([1.0, 0.0, lost])[:, None])
    assert_close(rule(ledger, Lesson(None, {"": said}, {}, {}))[:, 0], shares)


def test_aekd_averages_over_the_batch_wherever_positions_are():
    said = torch.randn(5, 4, 3, 3, requires_grad=True)
    losses = [mse(said, torch.randn(5, 4, 3, 3)) for _ in range(3)]
    _, weights = agreed(losses, said, tap="layer", limit=1.0)
    means = torch.stack(
        [torch.autograd.grad(x.mean(), said, retain_graph=True)[0].mean(dim=0).flatten() for x in losses]
    )
    assert_close(weights[1:], MGDA()(means @ means.T).float(), rtol=1e-3, atol=1e-4)


def test_aekd_with_one_teacher_a_path_is_one():
    made = distiller(Product((), [AEKD()]), norm=False)
    step = made(batch())
    assert step.weights[3].eq(1).all()
    assert_close(step.weights[1] + step.weights[2], torch.ones(6))
