"""Reads run folders and writes one HTML page that works from disk, without a network."""

from .board import is_bench, write_bench
from .page import write
from .read import Run, read

__all__ = ["Run", "is_bench", "read", "write", "write_bench"]
