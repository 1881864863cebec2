"""How much each path and teacher counts: scales, gates and their product."""

from .adaptive import Adaptive
from .auto import Auto
from .base import Weighting
from .calibrate import Calibrate
from .dwa import DWA
from .entropy import Entropy
from .fixed import Fixed
from .gls import GLS
from .product import Product
from .rlw import RLW
from .trust import Trust
from .uncertainty import Uncertainty
from .warmup import Warmup

__all__ = [
    "DWA",
    "GLS",
    "RLW",
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
