"""What the tests of several commands share."""

import pathlib

import pytest

from tutelage.cli.__main__ import main


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> pathlib.Path:
    """A run folder with a small trained network, to teach in other tests."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    options = ["--set", "train.epochs=5", "--set", "data.batch_size=64", "--set", "train.log_every=5"]
    assert main(["train", "--model", "cifar/resnet8", "--data", "digits", "--out", str(folder), *options]) == 0
    return folder
