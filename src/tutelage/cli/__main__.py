"""The command line: errors to exit codes, signals, warnings."""

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import typer

from tutelage.errors import InputError, Interrupted, MissingExtra, missing_extra

from .commands import app
from .memory import keep_freed_memory

# Read when torch is imported, later: threads that wait must not spin, or a busy machine makes them many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code says what happened.

    Returns:
        0 done, 2 the user's input, 1 a defect of ours, 130 interrupted.
    """
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
    allows = any(argument.partition("=")[0] == "--allow-import" for argument in arguments)
    if allows and "" not in sys.path:
        sys.path.insert(0, "")  # a package of the user's lies where the command is given
    signal.signal(signal.SIGTERM, _terminated)
    if argv is None:
        keep_freed_memory()
    code = _guarded(lambda: app(args=arguments, standalone_mode=False), debug)
    if argv is None:
        sys.exit(code)
    return code


_NOT_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""Ways in which a disk refuses to be read or written that no program can mend."""


def _guarded(command: Callable[[], Any], debug: bool) -> int:
    try:
        code = command()
        if code == INTERRUPTED:  # a signal that the library of commands caught before we could
            typer.echo("interrupted", err=True)
        return code if isinstance(code, int) else 0
    except SystemExit as done:
        if isinstance(done.__context__, BrokenPipeError):  # whoever read the output, such as `head`, has read enough
            return 0
        raise
    except (InputError, MissingExtra) as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"{_speaker()}{type(error).__name__}: {error}", err=True)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        typer.echo(f"{_speaker()}interrupted: {error}" if str(error) else "interrupted", err=True)
        return INTERRUPTED
    except typer.Exit as done:
        return int(done.exit_code)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "show"):  # a usage error of the command line
            error.show()
            return 2
        if isinstance(error, OSError) and error.errno in _NOT_OURS and not debug:
            place = error.filename or "a file"
            typer.echo(f"{place}: expected to read or write here, found: {error.strerror}.", err=True)
            return 2
        if isinstance(error, ImportError) and (missing := missing_extra(error)) is not None and not debug:
            typer.echo(f"MissingExtra: {missing}", err=True)
            return 2
        traceback.print_exc()
        typer.echo(
            "\nThis is a defect of tutelage. Please report it with the lines above and `tutelage doctor`.", err=True
        )
        return 1


def _speaker() -> str:
    """Which of several processes speaks; nothing for the first."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return "" if world == "1" or rank == "0" else f"[process {rank} of 0 to {int(world) - 1}] "


def _terminated(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
