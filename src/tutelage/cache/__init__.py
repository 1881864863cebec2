"""Teachers' answers on disk, keyed by sample and view: computed once, read by every student."""

from .manifest import CLEAN, Entry, Manifest
from .reader import Record, Store
from .request import Estimate, Request, estimate
from .writer import write

__all__ = ["CLEAN", "Entry", "Estimate", "Manifest", "Record", "Request", "Store", "estimate", "write"]
