"""The command line called as a user calls it, in this process."""

import pathlib

import pytest

from tutelage.cli.__main__ import main


@pytest.fixture
def tutelage(capsys):
    """Runs a command; gives its exit code and what it printed."""

    def command(*arguments) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> pathlib.Path:
    """A run folder with a small trained network, to teach in other tests."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    options = ["--set", "train.epochs=5", "--set", "data.batch_size=64", "--set", "train.log_every=5"]
    assert main(["train", "--model", "cifar/resnet8", "--data", "digits", "--out", str(folder), *options]) == 0
    return folder
