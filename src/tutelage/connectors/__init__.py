"""Connectors: what stands between the student's tap and the loss. Any `nn.Module` will do.

Shapes are told as those of one sample: a vector ``(D,)``, tokens ``(T, D)``, a map ``(C, H, W)``.
"""

from .bottleneck import Bottleneck as Bottleneck
from .chain import chain as chain
from .pool import Pool as Pool
from .project import Project as Project
from .regressor import Regressor as Regressor
from .resize import Resize as Resize
from .tokens import Tokens as Tokens

__all__ = ["Bottleneck", "Pool", "Project", "Regressor", "Resize", "Tokens", "chain"]
