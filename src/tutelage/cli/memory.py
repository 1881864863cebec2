"""Memory of a command's own process."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, instead of giving it back to the system and asking for it again at each step.

    A training step on a CPU allocates and frees the same large tensors over and over. By default glibc maps and unmaps
    each of them, and every page is cleared anew: 5 to 10% of a step of a small network. Only a command does this; a
    library call leaves its caller's process alone.

    Returns:
        Whether the C library could be told; false where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
