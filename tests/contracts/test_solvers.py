"""What every solver promises, whichever it is."""

import pytest
import torch
from torch.testing import assert_close

from tutelage.errors import MissingExtra
from tutelage.weighting import solvers
from tutelage.weighting.solvers import Solver

NEEDED = {"Torchjd": {"name": "MGDA"}}  # arguments without a default
BY_CHANCE = {"GradVac", "PCGrad"}  # the order in which gradients meet is drawn
TASK_FIRST = {"AGEM"}  # the first gradient is apart
MINDS_SIZES = {"FairGrad"}  # its equation is not homogeneous; `ByGradient` gives it products of one size
SUMS_TO_ONE = {"IMTLG", "MGDA"}
NAMES = [name for name in solvers.__all__ if name != "Solver"]


def build(name: str, objectives: int = 4) -> Solver:
    try:
        solver = getattr(solvers, name)(**NEEDED.get(name, {}))
    except MissingExtra as missing:
        pytest.skip(str(missing))
    solver.bind(objectives)
    return solver


def products(rows: int = 4, size: int = 9) -> torch.Tensor:
    gradients = torch.randn(rows, size, dtype=torch.float64)
    return gradients @ gradients.T


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_list_of_names_is_exact():
    public = {key for key, value in vars(solvers).items() if isinstance(value, type) and issubclass(value, Solver)}
    assert public == set(solvers.__all__)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_weights_are_finite_one_a_gradient_and_negative_only_where_that_is_said(name, rows):
    solver = build(name, rows)
    weights = solver(products(rows))
    assert weights.shape == (rows,)
    assert weights.dtype == torch.float64
    assert weights.isfinite().all()
    assert solver.signed or (weights >= 0).all()


def test_fifty_gradients_are_not_too_many(name):
    assert build(name, 50)(products(50, 60)).isfinite().all()


@pytest.mark.parametrize(
    "gradients",
    [
        torch.ones(4, 3),
        torch.zeros(4, 3),
        torch.tensor([[1.0, 0.0], [-1.0, 0.0]]),
        torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, -1.0]]),
        torch.tensor([[1e6, 0.0], [1e-6, 1e-6], [0.0, 1.0]]),
    ],
    ids=["all the same", "all zero", "two opposite", "one opposite", "one zero", "sizes far apart"],
)
def test_gradients_that_depend_on_each_other_give_finite_weights(name, gradients):
    assert build(name, len(gradients))(gradients @ gradients.T).isfinite().all()


def test_the_order_of_the_gradients_does_not_matter(name):
    if name in BY_CHANCE:
        pytest.skip("the order is drawn")
    order = torch.tensor([0, 3, 4, 1, 2] if name in TASK_FIRST else [3, 0, 4, 1, 2])
    square = products(5)
    here, there = build(name, 5)(square), build(name, 5)(square[order][:, order])
    assert_close(there, here[order], rtol=1e-6, atol=1e-9)


def test_a_factor_common_to_all_losses_changes_nothing(name):
    if name in MINDS_SIZES:
        pytest.skip("weights depend on the size of the gradients, and it says so")
    square, losses = products(), torch.rand(4).double()
    here, there = (build(name)(square * size**2, losses * size) for size in (1.0, 1024.0))
    shared = here.norm() / there.norm() if name == "NashMTL" else 1.0  # half the size, twice the weight
    assert_close(there * shared, here, rtol=1e-5, atol=1e-7)


def test_weights_sum_to_one_where_that_is_said(name):
    if name in SUMS_TO_ONE:
        assert_close(build(name)(products()).sum(), torch.tensor(1.0, dtype=torch.float64))


def test_gradients_that_are_left_out_do_not_disturb_the_others(name):
    square, at = products(), torch.tensor([0, 2, 3])
    solver = build(name)
    solver(square)
    assert solver(square[at][:, at], torch.ones(3), at).shape == (3,)
    assert solver(square).shape == (4,)


def test_a_saved_state_gives_the_same_weights(name):
    first, square = build(name), products()
    first(products())
    second = build(name)
    second.load_state_dict(first.state_dict())
    assert_close(second(square), first(square), rtol=0, atol=0)
