"""Connectors: what stands between the student's tap and the loss. Any `nn.Module` will do; these are the usual ones.

Shapes are told as those of one sample: a vector ``(D,)``, tokens ``(T, D)``, a map ``(C, H, W)``.
"""

from .pool import Pool as Pool
from .project import Project as Project
from .resize import Resize as Resize

__all__ = ["Pool", "Project", "Resize"]
