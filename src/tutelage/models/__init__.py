"""Finding a model by its string, filling it, keeping it, and the nets that other libraries do not carry."""

from . import cifar, sr
from .cost import latency, macs, parameters
from .find import Named, find, names, parse
from .fingerprint import fingerprint
from .folder import load, save
from .mapped import map_weights
from .preprocess import Preprocess
from .weights import load_weights

__all__ = [
    "Named",
    "Preprocess",
    "cifar",
    "find",
    "fingerprint",
    "latency",
    "load",
    "load_weights",
    "macs",
    "map_weights",
    "names",
    "parameters",
    "parse",
    "save",
    "sr",
]
