"""Data: opened, cut into slices, augmented and batched; every sample keeps its number."""

from .augment import Augment, Augmentation, defaults
from .loader import Loader
from .open import names, open_data
from .slices import Slice, Splits

__all__ = ["Augment", "Augmentation", "Loader", "Slice", "Splits", "defaults", "names", "open_data"]
