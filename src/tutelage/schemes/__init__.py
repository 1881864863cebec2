"""Who teaches whom, in which order: each scheme is a generator of stages."""

from .base import Cast, Stage
from .channel_split import channel_split
from .offline import offline
from .paraphrased import paraphrased
from .privileged import privileged
from .pseudo_labels import pseudo_labels
from .reused_classifier import reused_classifier
from .subclasses import subclasses

__all__ = [
    "Cast",
    "Stage",
    "channel_split",
    "offline",
    "paraphrased",
    "privileged",
    "pseudo_labels",
    "reused_classifier",
    "subclasses",
]
