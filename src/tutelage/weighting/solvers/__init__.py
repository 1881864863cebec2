"""Solvers: from the inner products of K gradients to K weights, one published rule each."""

from .agem import AGEM
from .aligned_mtl import AlignedMTL
from .base import Solver
from .cagrad import CAGrad
from .dual_cone import DualProj, UPGrad
from .fair_grad import FairGrad, NashMTL
from .gradvac import GradVac
from .imtl_g import IMTLG
from .mgda import MGDA
from .pcgrad import PCGrad
from .torchjd import Torchjd

__all__ = [
    "AGEM",
    "IMTLG",
    "MGDA",
    "AlignedMTL",
    "CAGrad",
    "DualProj",
    "FairGrad",
    "GradVac",
    "NashMTL",
    "PCGrad",
    "Solver",
    "Torchjd",
    "UPGrad",
]
