"""Values and gradients against the shared conformance vectors, for every method that has an adapter."""

import importlib.util
import json
import pathlib
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent


def _load_runner():
    spec = importlib.util.spec_from_file_location("conformance_run", HERE / "run.py")
    module = sys.modules["conformance_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run = _load_runner()


@pytest.mark.parametrize("method", sorted(run.methods()))
def test_values_and_gradients_agree(shared, method):
    folder = shared / "conformance"
    wrong = {case["name"]: list(run.check(folder, case)) for case in run.cases(folder, [method])}
    assert wrong, f"no case of {method}"
    assert not {name: words for name, words in wrong.items() if words}


@pytest.fixture
def folder(tmp_path):
    """Two cases of our own: logit regression, and a method nobody has."""
    student, teacher = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    stored = {
        "input:student_logits": student,
        "input:teacher_logits": teacher,
        "expect:loss": (student - teacher).square().mean(),
        "expect:grad:student_logits": (student - teacher) / 6,
    }
    save_file(stored, tmp_path / "a.safetensors")
    about = {name: {"rtol": 1e-6, "atol": 1e-12} for name in stored}
    case = {
        "name": "a",
        "file": "a.safetensors",
        "method": "logits_mse",
        "hyperparameters": {"T": 1.0},
        "tensors": about,
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": [case, {**case, "name": "b", "method": "new"}]}))
    return tmp_path


def test_the_runner_passes_what_agrees(folder, capsys):
    assert run.main([str(folder), "--only", "logits_mse"]) == 0
    assert "a: ok" in capsys.readouterr().out


def test_the_runner_fails_where_a_method_is_unknown(folder, capsys):
    assert run.main([str(folder)]) == 1
    assert "b: no such method" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["expect:loss", "expect:grad:student_logits"])
def test_the_runner_names_the_tensor_that_differs(folder, capsys, name):
    stored = load_file(folder / "a.safetensors")
    stored[name] = stored[name] * 1.001
    save_file(stored, folder / "a.safetensors")
    assert run.main([str(folder), "--only", "logits_mse"]) == 1
    assert f"{name.removeprefix('expect:')} differs" in capsys.readouterr().out


def test_the_runner_fails_where_an_expected_tensor_is_not_given(folder, capsys):
    stored = load_file(folder / "a.safetensors") | {"expect:entropy": torch.ones(1)}
    save_file(stored, folder / "a.safetensors")
    assert run.main([str(folder), "--only", "logits_mse"]) == 1
    assert "entropy is not given" in capsys.readouterr().out


def test_the_runner_fails_where_nothing_was_compared(folder):
    assert run.main([str(folder), "--only", "nothing"]) == 1


def test_layouts_keep_the_numbers():
    x = torch.randn(2, 3, 4, 5)
    for layout in ("channels_last", "strided_slice"):
        assert torch.equal(run.laid_out(x, layout), x)
        assert not run.laid_out(x, layout).is_contiguous()
    assert run.laid_out(x[0, 0], "transposed").stride() == (1, 4)
