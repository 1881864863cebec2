"""Finding a model by its string, and the nets that other libraries do not carry."""

from . import cifar
from .find import Named, find, names, parse
from .preprocess import Preprocess

__all__ = ["Named", "Preprocess", "cifar", "find", "names", "parse"]
