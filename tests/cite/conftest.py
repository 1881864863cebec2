"""The command line, as in tests/cli."""

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
