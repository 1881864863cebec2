"""A command keeps the memory it frees."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from tutelage.cli.memory import keep_freed_memory
assert keep_freed_memory() if sys.argv[1] == "kept" else True
def touch():
    block = bytearray(48 << 20)
    block[::4096] = b"x" * len(block[::4096])
for _ in range(2):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux is told")
def test_freed_memory_is_used_again_without_asking_the_system():
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("given back", "kept")
    }
    assert faults["given back"] > 10_000
    assert faults["kept"] < 1_000
