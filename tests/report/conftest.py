import pathlib
import runpy
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def folders() -> SimpleNamespace:
    """What `run_folder.py` offers."""
    return SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).with_name("run_folder.py"))))


@pytest.fixture
def run(folders, tmp_path) -> pathlib.Path:
    return folders.write_run(tmp_path / "a")
