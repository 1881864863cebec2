"""Data: opened, cut into slices, augmented and batched; every sample keeps its number."""

from .augment import Augment, Augmentation, defaults
from .augment_boxes import AugmentBoxes
from .augment_masks import AugmentMasks
from .hr_folder import open_pairs
from .loader import Loader
from .masks import open_masks
from .open import names, open_data
from .open_boxes import open_boxes
from .patches import Patches
from .slices import Slice, Splits

__all__ = [
    "Augment",
    "AugmentBoxes",
    "AugmentMasks",
    "Augmentation",
    "Loader",
    "Patches",
    "Slice",
    "Splits",
    "defaults",
    "names",
    "open_boxes",
    "open_data",
    "open_masks",
    "open_pairs",
]
