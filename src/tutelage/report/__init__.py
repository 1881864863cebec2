"""Reads run folders and writes one HTML page that works from disk, without a network."""

from .page import write
from .read import Run, read

__all__ = ["Run", "read", "write"]
