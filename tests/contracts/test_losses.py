"""What every loss keeps, whatever it computes. The list is `losses.__all__`: a new loss is tested unasked."""

import copy
import importlib.util
import inspect
import pathlib
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import losses
from tutelage.losses.batchwise import is_batchwise
from tutelage.losses.together import hears_together, marked

_spec = importlib.util.spec_from_file_location("contract_inputs", pathlib.Path(__file__).with_name("inputs.py"))
inputs = sys.modules["contract_inputs"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(inputs)
B = inputs.B

HELPERS = {
    *(
        "alias",
        "anchors",
        "batchwise",
        "cells",
        "constant",
        "gram",
        "labels",
        "learned",
        "maps",
        "positions",
        "precision",
        "shapes",
        "standardise",
        "temperature",
    ),
    *("together", "tokens", "unit"),
}
"""Files of the folder that hold no loss."""

every_loss = pytest.mark.parametrize("name", losses.__all__)


def each(change, x):
    """A tensor changed, or each of a tuple of tensors (a path of several taps)."""
    return change(x) if isinstance(x, torch.Tensor) else tuple(change(part) for part in x)


def parts(x):
    """A tensor, or a tuple of them, as a tuple."""
    return (x,) if isinstance(x, torch.Tensor) else x


def drawn(shape, scale):
    """Random features of one tap, or of several."""
    if isinstance(shape[0], tuple):
        return tuple(drawn(one, scale) for one in shape)
    return scale * torch.randn(B, *shape)


class Case:
    """One loss with inputs that suit it."""

    def __init__(self, name: str, scale: float = 1.0):
        row = inputs.LOSSES.get(name, inputs.LossRow())
        self.loss = row.build() if row.build else getattr(losses, name)
        self.student = drawn(row.student, scale)
        self.teacher = drawn(row.teacher, scale)
        self.extras = row.extras
        self.by_position = row.by_position

    def extras_of(self, samples):
        """What the loss asks for, of some samples."""
        return {key: x[samples] if isinstance(x, torch.Tensor) else x for key, x in self.extras.items()}

    def __call__(self, student=None, teacher=None, extras=None):
        return self.loss(
            self.student if student is None else student,
            self.teacher if teacher is None else teacher,
            **(self.extras if extras is None else extras),
        )


@every_loss
def test_one_value_per_sample(name):
    value = Case(name)()
    assert value.shape == (B,)
    assert value.dtype == torch.float32


@every_loss
def test_a_batch_of_one_has_one_finite_value(name):
    case = Case(name)
    student, teacher = (each(lambda x: x[:1], side) for side in (case.student, case.teacher))
    value = case(student, teacher, case.extras_of(slice(1)))
    assert value.shape == (1,)
    assert value.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    case = Case(name, scale=30.0)
    student, teacher = (each(lambda x: x.to(dtype), side) for side in (case.student, case.teacher))
    value = copy.deepcopy(case)(student, teacher)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert_close(value, case(each(torch.Tensor.float, student), each(torch.Tensor.float, teacher)))


@every_loss
def test_autocast_does_not_change_the_value(name):
    case = Case(name)
    plain = copy.deepcopy(case)()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(case(), plain)


@every_loss
def test_double_precision_stays_double(name):
    case = Case(name)
    if isinstance(case.loss, nn.Module):
        case.loss.double()
    student, teacher = (each(torch.Tensor.double, side) for side in (case.student, case.teacher))
    assert case(student, teacher).dtype == torch.float64


@every_loss
@pytest.mark.parametrize("value", [-1e4, 1e4, 0.0])
def test_extreme_values_give_finite_loss_and_gradient(name, value):
    case = Case(name)
    for student, teacher in zip(parts(case.student), parts(case.teacher), strict=False):
        student.flatten(1)[:, 0] = value
        teacher.flatten(1)[:, 1] = -value
        student[0] = value  # the whole sample is constant
        teacher[1] = value
    student = each(torch.Tensor.requires_grad_, case.student)
    loss = case(student)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(x.grad.isfinite().all() for x in parts(student))


@every_loss
def test_equal_inputs_give_finite_gradient(name):
    case = Case(name)
    if [x.shape for x in parts(case.student)] == [x.shape for x in parts(case.teacher)]:
        student = each(lambda x: x.clone().requires_grad_(), case.teacher)
        case(student).sum().backward()
        assert all(x.grad.isfinite().all() for x in parts(student))


@every_loss
def test_gradient_reaches_the_student_only(name):
    case = Case(name)
    student, teacher = (each(torch.Tensor.requires_grad_, side) for side in (case.student, case.teacher))
    case(student, teacher).sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in parts(student))
    assert all(x.grad is None for x in parts(teacher))


@every_loss
def test_inputs_are_left_as_they_were(name):
    case = Case(name)
    given = *parts(case.student), *parts(case.teacher)
    before = each(torch.clone, given)
    case()
    assert all(map(torch.equal, given, before))


@every_loss
def test_a_permuted_batch_gives_permuted_values(name):
    case = Case(name)
    order = torch.tensor([2, 5, 0, 4, 1, 3])
    plain = copy.deepcopy(case)()
    student, teacher = (each(lambda x: x[order], side) for side in (case.student, case.teacher))
    moved = case(student, teacher, case.extras_of(order))
    if not case.by_position:
        assert_close(moved, plain[order], rtol=1e-5, atol=1e-5)


@every_loss
def test_only_a_loss_that_says_so_depends_on_the_order_of_the_batch(name):
    doc = " ".join(getattr(losses, name).__doc__.split())
    assert ("depends on the order of the batch" in doc) == Case(name).by_position


@every_loss
def test_one_number_for_the_batch_is_marked_as_such(name):
    case = Case(name)
    value = case()
    assert is_batchwise(case.loss) == torch.equal(value, value[:1].expand(B))


@every_loss
def test_several_teachers_in_one_call_give_what_each_gives_alone(name):
    case = Case(name)
    if not hears_together(case.loss):
        pytest.skip("called once a teacher")
    teachers = torch.stack([case.teacher, case.teacher.flip(0), 2 * case.teacher])
    student = case.student.requires_grad_()
    at_once = torch.func.vmap(lambda teacher: case(teacher=teacher))(teachers)
    alone = torch.stack([case(teacher=teacher) for teacher in teachers])
    assert_close(at_once, alone)
    assert_close(*(torch.autograd.grad(values.sum(), student)[0] for values in (at_once, alone)), rtol=1e-5, atol=1e-5)


@every_loss
def test_memory_layout_does_not_matter(name):
    case = Case(name)

    def strided(x):
        x = torch.stack([x, -x], dim=-1)[..., 0]
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    assert_close(copy.deepcopy(case)(each(strided, case.student)), case())


@every_loss
def test_forward_alone_changes_nothing(name):
    case = Case(name)
    if isinstance(case.loss, nn.Module):
        case()
        before = copy.deepcopy(case.loss.state_dict())
        first, second = case(), case()
        assert_close(first, second)
        assert_close(case.loss.state_dict(), before)


@every_loss
def test_the_docstring_has_its_parts(name):
    doc = inspect.getdoc(getattr(losses, name))
    for part in ("Args:", "Reference:", "Example:"):
        assert part in doc, f"{name}: no {part}"
    returned = inspect.getdoc(getattr(losses, name).forward) if inspect.isclass(getattr(losses, name)) else doc
    assert "Returns:" in returned


@every_loss
def test_options_are_keywords_with_defaults(name):
    part = getattr(losses, name)
    extras = ("index", "target", "inputs", "mask", "head", "element_weight")
    for parameter in list(inspect.signature(part).parameters.values())[0 if inspect.isclass(part) else 2 :]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.name in extras or parameter.default is not inspect.Parameter.empty


def test_the_list_is_exact():
    assert sorted(losses.__all__, key=str.lower) == sorted(set(losses.__all__), key=str.lower)
    files = {f.stem for f in pathlib.Path(losses.__file__).parent.glob("[a-z]*.py")} - HELPERS
    assert {name.lower() for name in losses.__all__} == files


def test_rows_name_existing_losses():
    assert set(inputs.LOSSES) <= set(losses.__all__)


def test_losses_load_torch_and_nothing_heavier():
    heavy = "lightning pydantic typer torchvision timm transformers torchmetrics plotly onnx pyarrow sklearn"
    code = (
        "import sys, torch; before = set(sys.modules); import tutelage.losses, tutelage.connectors; "
        f"print(*[m for m in {heavy.split()} if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", [name for name, row in inputs.LOSSES.items() if "target" in row.extras])
def test_a_loss_that_is_nothing_without_labels_says_so(name):
    case = Case(name)
    found = case(extras={**case.extras, "target": torch.full_like(case.extras["target"], -1)})
    assert bool(found.eq(0).all()) == marked(case.loss, "needs_labels")
