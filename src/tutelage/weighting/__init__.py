"""How much each path and teacher counts: scales, gates and their product."""

from .adaptive import Adaptive
from .aekd import AEKD
from .auto import Auto
from .base import Weighting
from .by_gradient import ByGradient
from .calibrate import Calibrate
from .decay import Decay
from .dwa import DWA
from .entropy import Entropy
from .famo import FAMO
from .fixed import Fixed
from .gls import GLS
from .gradnorm import GradNorm
from .guard import Guard
from .imtl import IMTL
from .learned import Learned
from .meta import Meta
from .product import Product
from .reliability import Reliability
from .rlw import RLW
from .route import Route
from .trust import Trust
from .uncertainty import Uncertainty
from .warmup import Warmup

__all__ = [
    "AEKD",
    "DWA",
    "FAMO",
    "GLS",
    "IMTL",
    "RLW",
    "Adaptive",
    "Auto",
    "ByGradient",
    "Calibrate",
    "Decay",
    "Entropy",
    "Fixed",
    "GradNorm",
    "Guard",
    "Learned",
    "Meta",
    "Product",
    "Reliability",
    "Route",
    "Trust",
    "Uncertainty",
    "Warmup",
    "Weighting",
]
