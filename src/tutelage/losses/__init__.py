"""Losses: ``(student, teacher) -> [B]``, one value per sample. `__all__` is the catalogue of recipes."""

from .activation_boundary import activation_boundary as activation_boundary
from .attention import attention as attention
from .crd import CRD as CRD
from .factor import factor as factor
from .fsp import fsp as fsp
from .ft import FT as FT
from .hierarchical_context import hierarchical_context as hierarchical_context
from .kdsvd import kdsvd as kdsvd
from .kl import kl as kl
from .mgd import MGD as MGD
from .mse import mse as mse
from .nst import nst as nst
from .ofd import OFD as OFD
from .reviewkd import ReviewKD as ReviewKD
from .semckd import SemCKD as SemCKD
from .similarity import similarity as similarity
from .vid import VID as VID

__all__ = [
    "CRD",
    "FT",
    "MGD",
    "OFD",
    "VID",
    "ReviewKD",
    "SemCKD",
    "activation_boundary",
    "attention",
    "factor",
    "fsp",
    "hierarchical_context",
    "kdsvd",
    "kl",
    "mse",
    "nst",
    "similarity",
]
