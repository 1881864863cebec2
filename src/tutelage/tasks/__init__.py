"""What differs between tasks: reading a batch, running a model, its own loss, predictions and metrics."""

from .base import Task
from .classification import Classification

__all__ = ["Classification", "Task"]
