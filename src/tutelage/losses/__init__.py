"""Losses: ``(student, teacher) -> [B]``, one value per sample. `__all__` is the catalogue of recipes."""

from .activation_boundary import activation_boundary as activation_boundary
from .affinity import affinity as affinity
from .anchor_boxes import anchor_boxes as anchor_boxes
from .anchor_classes import anchor_classes as anchor_classes
from .attention import attention as attention
from .cc import CC as CC
from .channel_statistics import channel_statistics as channel_statistics
from .comparative import comparative as comparative
from .correlation import correlation as correlation
from .crcd import CRCD as CRCD
from .crd import CRD as CRD
from .crosskd import crosskd as crosskd
from .csd import CSD as CSD
from .cwd import cwd as cwd
from .dist import dist as dist
from .dkd import dkd as dkd
from .dpk import DPK as DPK
from .factor import factor as factor
from .fgd import FGD as FGD
from .fsp import fsp as fsp
from .ft import FT as FT
from .hierarchical_context import hierarchical_context as hierarchical_context
from .ifvd import ifvd as ifvd
from .imitation import imitation as imitation
from .info_nce import info_nce as info_nce
from .irg import irg as irg
from .kdsvd import kdsvd as kdsvd
from .kl import kl as kl
from .l1 import l1 as l1
from .ld import ld as ld
from .mgd import MGD as MGD
from .mse import mse as mse
from .nkd import nkd as nkd
from .nst import nst as nst
from .ofd import OFD as OFD
from .one_vs_all import one_vs_all as one_vs_all
from .pad import PAD as PAD
from .pairwise import pairwise as pairwise
from .pisr import PISR as PISR
from .pkt import pkt as pkt
from .reviewkd import ReviewKD as ReviewKD
from .rkd_angle import rkd_angle as rkd_angle
from .rkd_distance import rkd_distance as rkd_distance
from .self_attention import self_attention as self_attention
from .semckd import SemCKD as SemCKD
from .similarity import similarity as similarity
from .soft_cross_entropy import soft_cross_entropy as soft_cross_entropy
from .spherical import spherical as spherical
from .srrl import srrl as srrl
from .subclass_spread import subclass_spread as subclass_spread
from .token_relations import token_relations as token_relations
from .transport import transport as transport
from .vid import VID as VID
from .virtual_teacher import virtual_teacher as virtual_teacher

__all__ = [
    "CC",
    "CRCD",
    "CRD",
    "CSD",
    "DPK",
    "FGD",
    "FT",
    "MGD",
    "OFD",
    "PAD",
    "PISR",
    "VID",
    "ReviewKD",
    "SemCKD",
    "activation_boundary",
    "affinity",
    "anchor_boxes",
    "anchor_classes",
    "attention",
    "channel_statistics",
    "comparative",
    "correlation",
    "crosskd",
    "cwd",
    "dist",
    "dkd",
    "factor",
    "fsp",
    "hierarchical_context",
    "ifvd",
    "imitation",
    "info_nce",
    "irg",
    "kdsvd",
    "kl",
    "l1",
    "ld",
    "mse",
    "nkd",
    "nst",
    "one_vs_all",
    "pairwise",
    "pkt",
    "rkd_angle",
    "rkd_distance",
    "self_attention",
    "similarity",
    "soft_cross_entropy",
    "spherical",
    "srrl",
    "subclass_spread",
    "token_relations",
    "transport",
    "virtual_teacher",
]
