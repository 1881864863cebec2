"""Who teaches whom, in which order: each scheme is a generator of stages."""

from .base import Cast, Stage
from .offline import offline

__all__ = ["Cast", "Stage", "offline"]
