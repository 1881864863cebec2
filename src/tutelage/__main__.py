"""``python -m tutelage`` is the ``tutelage`` command."""

import sys

from tutelage.errors import missing_extra


def main() -> None:
    """The command line, or the line that installs what it needs."""
    try:
        from tutelage.cli.__main__ import main as command
    except ImportError as error:
        if (missing := missing_extra(error)) is None:
            raise
        print(f"MissingExtra: {missing}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
