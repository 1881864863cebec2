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
from tutelage.losses.together import hears_together

_spec = importlib.util.spec_from_file_location("contract_inputs", pathlib.Path(__file__).with_name("inputs.py"))
inputs = sys.modules["contract_inputs"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(inputs)
B = inputs.B

HELPERS = {"batchwise", "gram", "labels", "positions", "precision", "shapes", "standardise", "together", "unit"}
"""Files of the folder that hold no loss."""

every_loss = pytest.mark.parametrize("name", losses.__all__)


class Case:
    """One loss with inputs that suit it."""

    def __init__(self, name: str, scale: float = 1.0):
        row = inputs.LOSSES.get(name, inputs.LossRow())
        self.loss = row.build() if row.build else getattr(losses, name)
        self.student = scale * torch.randn(B, *row.student)
        self.teacher = scale * torch.randn(B, *row.teacher)
        self.extras = row.extras

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
    value = case(case.student[:1], case.teacher[:1], case.extras_of(slice(1)))
    assert value.shape == (1,)
    assert value.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    case = Case(name, scale=30.0)
    student, teacher = case.student.to(dtype), case.teacher.to(dtype)
    value = copy.deepcopy(case)(student, teacher)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert_close(value, case(student.float(), teacher.float()))


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
    assert case(case.student.double(), case.teacher.double()).dtype == torch.float64


@every_loss
@pytest.mark.parametrize("value", [-1e4, 1e4, 0.0])
def test_extreme_values_give_finite_loss_and_gradient(name, value):
    case = Case(name)
    case.student.flatten(1)[:, 0] = value
    case.teacher.flatten(1)[:, 1] = -value
    case.student[0] = value  # the whole sample is constant
    case.teacher[1] = value
    student = case.student.requires_grad_()
    loss = case(student)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


@every_loss
def test_equal_inputs_give_finite_gradient(name):
    case = Case(name)
    if case.student.shape == case.teacher.shape:
        student = case.teacher.clone().requires_grad_()
        case(student).sum().backward()
        assert student.grad.isfinite().all()


@every_loss
def test_gradient_reaches_the_student_only(name):
    case = Case(name)
    student, teacher = case.student.requires_grad_(), case.teacher.requires_grad_()
    case(student, teacher).sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@every_loss
def test_inputs_are_left_as_they_were(name):
    case = Case(name)
    before = case.student.clone(), case.teacher.clone()
    case()
    assert torch.equal(case.student, before[0])
    assert torch.equal(case.teacher, before[1])


@every_loss
def test_a_permuted_batch_gives_permuted_values(name):
    case = Case(name)
    order = torch.tensor([2, 5, 0, 4, 1, 3])
    plain = copy.deepcopy(case)()
    moved = case(case.student[order], case.teacher[order], case.extras_of(order))
    assert_close(moved, plain[order])


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
    strided = torch.stack([case.student, -case.student], dim=-1)[..., 0]
    if strided.dim() == 4:
        strided = strided.contiguous(memory_format=torch.channels_last)
    assert_close(copy.deepcopy(case)(strided), case())


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
