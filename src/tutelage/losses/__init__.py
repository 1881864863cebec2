"""Losses: ``(student, teacher) -> [B]``, one value per sample. `__all__` is the catalogue of recipes."""

from .attention import attention as attention
from .crd import CRD as CRD
from .kl import kl as kl
from .mse import mse as mse
from .similarity import similarity as similarity

__all__ = ["CRD", "attention", "kl", "mse", "similarity"]
