"""Data: opened, cut into slices, augmented and batched; every sample keeps its number."""

from .augment import Augment, Augmentation, defaults
from .loader import Loader
from .open import names, open_data
from .patches import Patches
from .slices import Slice, Splits

__all__ = ["Augment", "Augmentation", "Loader", "Patches", "Slice", "Splits", "defaults", "names", "open_data"]
