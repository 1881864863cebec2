"""Teachers' answers on disk, keyed by sample and view: computed once, read by every student."""

from .fill import Local
from .manifest import CLEAN, Entry, Manifest
from .on_ray import OnRay
from .reader import Record, Store
from .request import Estimate, Request, estimate
from .writer import write

__all__ = [
    "CLEAN",
    "Entry",
    "Estimate",
    "Local",
    "Manifest",
    "OnRay",
    "Record",
    "Request",
    "Store",
    "estimate",
    "write",
]
