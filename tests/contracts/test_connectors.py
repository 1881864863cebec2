"""What every connector keeps. The list is `connectors.__all__`; each has rows in `inputs.py`."""

import copy
import importlib.util
import inspect
import pathlib
import sys

import pytest
import torch
from torch.testing import assert_close

from tutelage import connectors

_spec = importlib.util.spec_from_file_location("contract_inputs", pathlib.Path(__file__).with_name("inputs.py"))
inputs = sys.modules["contract_inputs"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(inputs)
B = inputs.B

every_row = pytest.mark.parametrize(
    ("build", "student", "teacher"),
    [
        pytest.param(*row, id=f"{name}-{i}")
        for name in connectors.__all__
        for i, row in enumerate(inputs.CONNECTORS[name])
    ],
)


def bound(build, student, teacher):
    connector = build()
    if hasattr(connector, "bind"):
        connector.bind(student, teacher, None)
    return connector


@every_row
def test_what_comes_out_has_the_shape_of_the_teacher(build, student, teacher):
    assert bound(build, student, teacher)(torch.randn(B, *student)).shape == (B, *teacher)


@every_row
def test_gradient_flows_to_the_student_and_all_parameters(build, student, teacher):
    connector, x = bound(build, student, teacher), torch.randn(B, *student, requires_grad=True)
    connector(x).mul(torch.randn(B, *teacher)).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in connector.parameters())


@every_row
def test_memory_layout_does_not_matter(build, student, teacher):
    connector, x = bound(build, student, teacher).eval(), torch.randn(B, *student)
    if x.dim() == 4:
        assert_close(connector(x.contiguous(memory_format=torch.channels_last)), connector(x))


@every_row
def test_a_state_fits_another_copy_bound_alike(build, student, teacher):
    first, second = bound(build, student, teacher).eval(), bound(build, student, teacher).eval()
    second.load_state_dict(first.state_dict())
    x = torch.randn(B, *student)
    assert_close(first(x), second(x))


@every_row
def test_a_copy_bound_later_leaves_the_original_unbound(build, student, teacher):
    original = build()
    before = len(list(original.parameters()))
    bound(lambda: copy.deepcopy(original), student, teacher)
    assert len(list(original.parameters())) == before


@every_row
def test_it_runs_under_autocast(build, student, teacher):
    connector = bound(build, student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert connector(torch.randn(B, *student)).isfinite().all()


@pytest.mark.parametrize("name", connectors.__all__)
def test_an_unknown_size_is_refused_with_the_way_out(name):
    connector = inputs.CONNECTORS[name][0][0]()
    if hasattr(connector, "bind"):
        with pytest.raises(ValueError, match="constructor"):
            connector.bind(None, None, None)


@pytest.mark.parametrize("name", connectors.__all__)
def test_the_docstring_has_its_parts(name):
    doc = inspect.getdoc(getattr(connectors, name))
    assert "Args:" in doc
    assert "Example:" in doc


def test_the_list_is_exact():
    files = {f.stem for f in pathlib.Path(connectors.__file__).parent.glob("[a-z]*.py")} - {"shapes"}
    assert {name.lower() for name in connectors.__all__} == files
    assert len(set(connectors.__all__)) == len(connectors.__all__)
    assert set(inputs.CONNECTORS) == set(connectors.__all__)
