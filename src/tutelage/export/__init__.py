"""The student walks out alone: one file per format, each checked against the model it came from."""

from .int8 import to_int8
from .onnx import to_onnx
from .parity import Parity
from .pt2 import to_pt2

__all__ = ["Parity", "to_int8", "to_onnx", "to_pt2"]
