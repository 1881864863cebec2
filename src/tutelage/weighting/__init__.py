"""How much each path and teacher counts: scales, gates and their product."""

from .adaptive import Adaptive
from .auto import Auto
from .base import Weighting
from .calibrate import Calibrate
from .entropy import Entropy
from .fixed import Fixed
from .product import Product
from .trust import Trust
from .uncertainty import Uncertainty
from .warmup import Warmup

__all__ = [
    "Adaptive",
    "Auto",
    "Calibrate",
    "Entropy",
    "Fixed",
    "Product",
    "Trust",
    "Uncertainty",
    "Warmup",
    "Weighting",
]
