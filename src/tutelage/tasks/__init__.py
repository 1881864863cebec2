"""What differs between tasks: opening data, reading a batch, running a model, its own loss, and how good it is."""

from typing import Any

from .base import Task
from .classification import Classification
from .detection import Detection
from .segmentation import Segmentation
from .super_resolution import SuperResolution

__all__ = ["Classification", "Detection", "Segmentation", "SuperResolution", "Task"]


def guess(source: Any) -> tuple[str, str]:
    """The task a data set is for, by what it looks like.

    Args:
        source: A path, a name or an object, as for a reader of data.

    Returns:
        The task's name, and what shows it (empty for classification, which is taken where nothing else fits).

    Example:
        >>> guess("digits")
        ('classification', '')
    """
    for name in __all__:
        found: type[Task] = globals()[name]
        if found is not Task and (why := found.recognises(source)):
            return found.name, why
    return Classification.name, ""
