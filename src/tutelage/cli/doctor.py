"""Doctor: versions and hardware, for bug reports."""

from typing import Any

from .runfolder import hardware, versions


def doctor() -> dict[str, Any]:
    """What a bug report should say of this machine.

    Example:
        >>> sorted(doctor())
        ['hardware', 'versions']
    """
    return {"versions": versions(), "hardware": hardware()}
