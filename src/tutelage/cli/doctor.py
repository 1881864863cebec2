"""Doctor: versions and hardware, for bug reports."""

from typing import Any

from tutelage.engine.hardware import computes_bf16

from .runfolder import hardware, versions


def doctor() -> dict[str, Any]:
    """What a bug report should say of this machine.

    Example:
        >>> sorted(doctor())
        ['bf16', 'hardware', 'versions']
    """
    return {"versions": versions(), "hardware": hardware(), "bf16": computes_bf16()}
