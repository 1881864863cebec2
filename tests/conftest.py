"""What every test may rely on: one thread, a fixed seed, and where the shared data lies."""

import os
import pathlib

import pytest
import torch

torch.set_num_threads(1)

SHARED = pathlib.Path(os.environ.get("TUTELAGE_SHARED", pathlib.Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(autouse=True)
def _same_draws_in_every_test():
    torch.manual_seed(0)


@pytest.fixture
def shared() -> pathlib.Path:
    """The folder of real data, weights and conformance vectors; the test is skipped where there is none."""
    if not (SHARED / "README.md").exists():
        pytest.skip(f"needs {SHARED.name}/ beside the project (or TUTELAGE_SHARED)")
    return SHARED


@pytest.fixture
def tutelage(capsys):
    """Runs a command; gives its exit code and what it printed."""
    from tutelage.cli.__main__ import main

    def command(*arguments) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command
