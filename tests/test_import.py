"""The front door: what it shows, and what it does not load."""

import subprocess
import sys

import pytest

import tutelage

HEAVY = (
    "lightning",
    "typer",
    "pydantic",
    "timm",
    "torchvision",
    "transformers",
    "torchmetrics",
    "plotly",
    "onnx",
    "yaml",
)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_public_name_is_there_and_nothing_else_is_promised():
    assert sorted(tutelage.__all__) == sorted(set(tutelage.__all__))
    assert len(tutelage.__all__) <= 25
    for name in tutelage.__all__:
        assert getattr(tutelage, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        tutelage.distil


def test_a_distiller_in_a_plain_loop_imports_nothing_heavy():
    code = f"""
import sys, runpy
runpy.run_path("examples/plain_loop.py")
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("package", ["typer", "pydantic", "lightning", "rich"])
def test_a_bare_installation_is_told_what_to_install(package, tmp_path):
    code = f"""
import sys
sys.modules[{package!r}] = None  # as if it were not installed
sys.argv = ["tutelage", "train", "--model", "cifar/resnet8", "--data", "digits", "--out", {str(tmp_path / "run")!r}]
from tutelage.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == f"MissingExtra: this needs {package}: pip install 'tutelage[train]'"
    assert "Traceback" not in done.stderr


def test_from_python_too():
    code = """
import sys
sys.modules["pydantic"] = None
import tutelage
try:
    tutelage.distill
except tutelage.errors.MissingExtra as error:
    print(error)
"""
    assert python(code).strip() == "this needs pydantic: pip install 'tutelage[train]'"


def test_importing_loads_nothing_until_a_name_is_used():
    assert python("import sys, tutelage; print('torch' in sys.modules)").strip() == "False"
    assert python("import sys, tutelage; tutelage.losses.kl; print('torch' in sys.modules)").strip() == "True"
