"""Data for classification: opened, cut into slices, augmented and batched; every sample keeps its number."""

from .augment import Augment, defaults
from .loader import Loader
from .open import names, open_data
from .slices import Slice, Splits

__all__ = ["Augment", "Loader", "Slice", "Splits", "defaults", "names", "open_data"]
