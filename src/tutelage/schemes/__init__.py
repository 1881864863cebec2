"""Who teaches whom, in which order: each scheme is a generator of stages."""

from .base import Cast, Stage
from .offline import offline
from .paraphrased import paraphrased
from .reused_classifier import reused_classifier
from .subclasses import subclasses

__all__ = ["Cast", "Stage", "offline", "paraphrased", "reused_classifier", "subclasses"]
