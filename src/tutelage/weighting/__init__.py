"""How much each path and teacher counts: scales, gates and their product."""

from .adaptive import Adaptive
from .aekd import AEKD
from .auto import Auto
from .base import Weighting
from .by_gradient import ByGradient
from .calibrate import Calibrate
from .fixed import Fixed
from .gradnorm import GradNorm
from .imtl import IMTL
from .product import Product
from .trust import Trust
from .uncertainty import Uncertainty
from .warmup import Warmup

__all__ = [
    "AEKD",
    "IMTL",
    "Adaptive",
    "Auto",
    "ByGradient",
    "Calibrate",
    "Fixed",
    "GradNorm",
    "Product",
    "Trust",
    "Uncertainty",
    "Warmup",
    "Weighting",
]
