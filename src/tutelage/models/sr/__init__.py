"""Nets for super-resolution of any size: small pictures in, pictures `scale` times as large out."""

from .edsr import edsr
from .fsrcnn import fsrcnn
from .rcan import rcan
from .srresnet import srresnet

__all__ = ["edsr", "fsrcnn", "rcan", "srresnet"]
