"""Losses: ``(student, teacher) -> [B]``, one value per sample. `__all__` is the catalogue of recipes."""

from .attention import attention as attention
from .cc import CC as CC
from .comparative import comparative as comparative
from .correlation import correlation as correlation
from .crd import CRD as CRD
from .cwd import cwd as cwd
from .dist import dist as dist
from .dkd import dkd as dkd
from .info_nce import info_nce as info_nce
from .kl import kl as kl
from .mse import mse as mse
from .nkd import nkd as nkd
from .one_vs_all import one_vs_all as one_vs_all
from .pad import PAD as PAD
from .pairwise import pairwise as pairwise
from .pkt import pkt as pkt
from .rkd_angle import rkd_angle as rkd_angle
from .rkd_distance import rkd_distance as rkd_distance
from .similarity import similarity as similarity
from .soft_cross_entropy import soft_cross_entropy as soft_cross_entropy
from .spherical import spherical as spherical
from .srrl import srrl as srrl
from .transport import transport as transport
from .virtual_teacher import virtual_teacher as virtual_teacher

__all__ = [
    "CC",
    "CRD",
    "PAD",
    "attention",
    "comparative",
    "correlation",
    "cwd",
    "dist",
    "dkd",
    "info_nce",
    "kl",
    "mse",
    "nkd",
    "one_vs_all",
    "pairwise",
    "pkt",
    "rkd_angle",
    "rkd_distance",
    "similarity",
    "soft_cross_entropy",
    "spherical",
    "srrl",
    "transport",
    "virtual_teacher",
]
