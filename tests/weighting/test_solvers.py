"""The mathematics of each solver: optimality, promises, and torchjd's own answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage.errors import InputError, MissingExtra, RecipeError, UnknownName
from tutelage.weighting import solvers
from tutelage.weighting.solvers.cagrad import worst_mixture
from tutelage.weighting.solvers.capped import capped
from tutelage.weighting.solvers.dual_cone import projected
from tutelage.weighting.solvers.pcgrad import orders, surgery
from tutelage.weighting.solvers.quadratic import minimise

pytestmark = pytest.mark.filterwarnings("ignore:The input matrix:UserWarning")


@st.composite
def gradient_sets(draw):
    """A few gradients: of different length, often conflicting, sometimes dependent, equal or zero."""
    rows, size = draw(st.integers(1, 7)), draw(st.integers(1, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    gradients = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    gradients -= draw(st.floats(0, 1.5)) * gradients.mean(dim=0)
    gradients *= 10 ** (draw(st.floats(0, 3)) * torch.rand(rows, 1, generator=generator, dtype=torch.float64))
    if rows > 1:
        gradients[0] = draw(st.sampled_from([1.0, -1.0, 0.0, 2.5])) * gradients[draw(st.integers(0, rows - 1))]
    return gradients


def few(test):
    return settings(max_examples=60, deadline=None, derandomize=True)(test)


@few
@given(gradient_sets())
def test_mgda_is_the_shortest_mixture(gradients):
    weights = solvers.MGDA()(gradients @ gradients.T)
    direction = weights @ gradients
    scale = gradients.norm(dim=1).max() * (direction.norm() + 1e-5 * gradients.norm())
    # No gradient has a smaller projection than the direction itself, and those in the mixture have just that.
    gap = gradients @ direction - direction @ direction
    assert (gap >= -1e-9 * scale).all()
    assert (weights * gap).abs().max() <= 1e-9 * scale
    assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))


@few
@given(gradient_sets(), st.floats(0.2, 1.0))
def test_capped_weights_meet_the_conditions_of_an_optimum(gradients, limit):
    limit = max(limit, 1 / len(gradients))
    square = gradients @ gradients.T
    weights = capped(square, limit=limit)
    slope = square @ weights
    scale = (square.abs() @ weights).max() + 1e-300
    assert (weights <= limit + 1e-12).all()
    assert (weights >= 0).all()
    assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    could_grow, could_shrink = weights < limit - 1e-9, weights > 1e-9
    if could_grow.any() and could_shrink.any():
        assert slope[could_grow].min() >= slope[could_shrink].max() - 1e-8 * scale


@few
@given(gradient_sets())
def test_upgrad_and_dualproj_conflict_with_no_gradient(gradients):
    for solver in (solvers.UPGrad(), solvers.DualProj()):
        direction = solver(gradients @ gradients.T) @ gradients
        assert (gradients @ direction >= -1e-8 * gradients.norm(dim=1) * gradients.norm(dim=1).max()).all()


@few
@given(gradient_sets())
def test_a_projection_is_the_nearest_point_that_conflicts_with_none(gradients):
    unit = gradients / gradients.norm(dim=1, keepdim=True).clamp(min=1e-300)
    mixture = torch.rand(len(unit), dtype=torch.float64)
    there, here = projected(unit @ unit.T, mixture) @ unit, mixture @ unit
    assert (unit @ there >= -1e-9).all()
    assert abs(float((there - here) @ there)) <= 1e-9  # the way there is at right angles to where it ends


def test_upgrad_keeps_a_short_gradient_safe_from_one_a_thousand_times_as_long():
    gradients = torch.tensor([[1.0, 0.0], [-1000.0, 1.0]], dtype=torch.float64)
    direction = solvers.UPGrad()(gradients @ gradients.T) @ gradients
    assert float(direction[0]) >= -1e-9
    small = gradients * 1e-6
    assert_close(solvers.UPGrad()(small @ small.T), solvers.UPGrad()(gradients @ gradients.T))


def test_upgrad_is_linear_in_the_length_of_each_gradient():
    gradients = torch.randn(3, 4, dtype=torch.float64)

    def direction(lengths):
        scaled = gradients * torch.tensor(lengths, dtype=torch.float64)[:, None]
        return solvers.UPGrad()(scaled @ scaled.T) @ scaled

    assert_close(direction([2.0, 3.0, 5.0]) + direction([1.0, 4.0, 2.0]), direction([3.0, 7.0, 7.0]))


@few
@given(gradient_sets())
def test_fair_shares_solve_their_equation(gradients):
    gradients = gradients[gradients.norm(dim=1) > 0]
    if len(gradients) == 0 or torch.linalg.matrix_rank(gradients) < len(gradients):
        return  # gradients that cancel each other have no fair share
    square = gradients @ gradients.T
    square = square / square.diagonal().mean()
    for fairness in (0.5, 1.0, 2.0):
        weights = solvers.FairGrad(fairness=fairness)(square)
        ridge = 1e-8 * square.diagonal() * weights
        assert_close(square @ weights + ridge, weights ** (-1 / fairness), rtol=1e-6, atol=1e-9)


@few
@given(gradient_sets(), st.floats(0.0, 1.2))
def test_cagrads_mixture_is_served_least(gradients, radius):
    square = gradients @ gradients.T
    square = square / square.diagonal().mean().clamp(min=1e-12)
    share, reach = worst_mixture(square, radius)

    def value(mixture):
        return float(mixture @ square.mean(dim=1) + reach * (mixture @ square @ mixture + 1e-8).sqrt())

    others = torch.distributions.Dirichlet(torch.full((len(square),), 0.5, dtype=torch.float64)).sample((200,))
    corners = torch.eye(len(square), dtype=torch.float64)
    near = share + 1e-3 * (torch.cat([others, corners]) - share)
    assert value(share) <= min(map(value, torch.cat([others, corners, near]))) + 1e-9


@few
@given(gradient_sets(), st.floats(0.1, 10.0), st.floats(0.0, 1.0), st.integers(1, 2))
def test_agem_keeps_the_tasks_direction_and_its_cap(gradients, cap, slack, own):
    solver = solvers.AGEM(cap=cap, slack=slack)
    solver.bind(len(gradients), own)
    weights = solver(gradients @ gradients.T)
    task, taught = gradients[:own].sum(dim=0), gradients[own:].sum(dim=0)
    if task.norm() <= 1e-9 * gradients.norm():  # nothing to compare with
        return
    direction, shortened = weights @ gradients, weights[own:] @ gradients[own:]
    assert task @ direction >= (slack - 1e-9) * task.square().sum() - 1e-9 * task.norm() * taught.norm()
    assert shortened.norm() <= (1 + 1e-6) * cap * task.norm()
    if weights[0] > 1:  # no more is taken than has to be
        size = task.square().sum()
        assert abs(task @ direction - slack * size) <= 1e-9 * (size + task.norm() * taught.norm())
    free = torch.ones_like(weights)
    if taught.norm() <= cap * task.norm() and task @ (task + taught) >= slack * task.square().sum():
        assert_close(weights, free, rtol=1e-6, atol=1e-6)


def test_agem_without_the_tasks_gradient_leaves_all_as_they_are():
    square = torch.tensor([[1.0, -3.0], [-3.0, 9.0]])
    assert_close(solvers.AGEM()(square, at=torch.tensor([1, 2])), torch.ones(2).double())


@pytest.mark.parametrize("options", [{"cap": 0.0}, {"cap": float("nan")}, {"slack": 1.5}, {"slack": -0.1}])
def test_agem_refuses_numbers_out_of_range(options):
    with pytest.raises(InputError, match="cap above 0 and slack in"):
        solvers.AGEM(**options)


def test_pcgrad_leaves_two_gradients_without_conflict():
    for length in (1.0, 1e7):
        gradients = torch.tensor([[1.0, 0.0], [-10.0 * length, length]], dtype=torch.float64)
        direction = solvers.PCGrad()(gradients @ gradients.T) @ gradients
        assert (gradients @ direction >= -1e-7 * gradients.norm(dim=1)).all()


def test_pcgrads_orders_follow_from_seed_and_step_alone():
    assert torch.equal(orders(5, 1, 7), orders(5, 1, 7))
    assert not torch.equal(orders(5, 1, 7), orders(5, 1, 8))
    assert not torch.equal(orders(5, 1, 7), orders(5, 2, 7))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    solvers.PCGrad()(torch.eye(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_imtl_gs_direction_has_the_same_projection_on_all_gradients():
    gradients = torch.randn(4, 7, dtype=torch.float64) * torch.tensor([[1.0], [100.0], [0.01], [3.0]])
    projections = gradients @ (solvers.IMTLG()(gradients @ gradients.T) @ gradients) / gradients.norm(dim=1)
    assert_close(projections, projections[:1].expand(4))


def test_aligned_gradients_are_orthogonal_and_equally_long():
    gradients = torch.randn(3, 5, dtype=torch.float64)
    strength, component = torch.linalg.eigh(gradients @ gradients.T)
    direction = solvers.AlignedMTL()(gradients @ gradients.T) @ gradients
    assert_close(component.T @ gradients @ direction, (strength * strength.min()).sqrt() * component.sum(dim=0))


def test_a_quadratic_programme_with_a_limit_that_leaves_no_choice_is_equal_shares():
    assert_close(minimise(torch.diag(torch.arange(1.0, 5)), upper=0.25, total=1.0), torch.full((4,), 0.25).double())


# torchjd


def jacobians(count=20):
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        rows = 2 + seed % 5
        yield torch.randn(rows, rows + 3, generator=generator, dtype=torch.float64) - 0.3 * (seed % 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "factor", "tolerance"),
    [
        (solvers.UPGrad(), ("UPGrad", {}), 1, 5e-3),  # 1e-4 on their diagonal
        (solvers.DualProj(), ("DualProj", {}), 1, 5e-3),
        (solvers.IMTLG(), ("IMTLG", {}), 1, 1e-6),
        (solvers.AlignedMTL(), ("AlignedMTL", {}), None, 1e-6),  # theirs is a mean
        (solvers.CAGrad(radius=0.5, rescale="none"), ("CAGrad", {"c": 0.5}), 1, 1e-3),
        (solvers.FairGrad(fairness=1.0), ("FairGrad", {"alpha": 1.0}), 1, 1e-4),
        (solvers.FairGrad(fairness=2.0), ("FairGrad", {"alpha": 2.0}), 1, 1e-4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else "",
)
def test_torchjd_gives_the_same_weights(ours, theirs, factor, tolerance):
    pytest.importorskip("torchjd")
    name, options = theirs
    try:
        other = solvers.Torchjd(name, **options)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    for gradients in jacobians():
        square = gradients @ gradients.T
        square = square / square.diagonal().mean()
        times = len(square) if factor is None else factor
        assert_close(ours(square), times * other(square), rtol=tolerance, atol=tolerance)


def test_no_mixture_of_torchjd_is_shorter_than_mgdas():
    pytest.importorskip("torchjd")
    other = solvers.Torchjd("MGDA")
    for gradients in jacobians():
        square = gradients @ gradients.T
        ours, theirs = solvers.MGDA()(square), other(square)
        assert ours @ square @ ours <= theirs @ square @ theirs + 1e-12
        assert_close(ours, theirs, rtol=0, atol=0.1)


def test_torchjds_pcgrad_agrees_where_the_order_does_not_matter():
    pytest.importorskip("torchjd")
    other = solvers.Torchjd("PCGrad")
    for gradients in jacobians():
        square = (gradients @ gradients.T)[:2, :2]  # with two gradients there is one order
        assert_close(surgery(square, torch.tensor([[0, 1], [1, 0]])).sum(dim=0), other(square), rtol=1e-6, atol=1e-6)


def test_a_weighting_that_torchjd_does_not_have_is_refused_with_the_closest_names():
    pytest.importorskip("torchjd")
    with pytest.raises(UnknownName, match="close: UPGrad"):
        solvers.Torchjd("UpGrad")
    with pytest.raises(RecipeError, match="MGDA does not take these options"):
        solvers.Torchjd("MGDA", width=3)


def test_without_torchjd_the_line_that_installs_it_is_given(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchjd", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[gradient\]'"):
        solvers.Torchjd("UPGrad")


# Options


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: solvers.MGDA(normaliser="l1"), "none, l2, loss, loss"),
        (lambda: solvers.CAGrad(radius=-1), "radius of 0 or more"),
        (lambda: solvers.CAGrad(rescale="cubic"), "none, square or linear"),
        (lambda: solvers.GradVac(decay=2), r"decay in \[0, 1\]"),
        (lambda: solvers.FairGrad(fairness=0), "fairness above 0"),
        (lambda: solvers.AlignedMTL(eps=-1), "eps in"),
        (lambda: solvers.MGDA(normaliser="loss")(torch.eye(2)), "needs the losses"),
    ],
)
def test_options_out_of_range_are_refused(build, words):
    with pytest.raises(InputError, match=words):
        build()
