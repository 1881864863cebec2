"""tutelage: knowledge distillation with many teachers and many paths, and proof that it helped.

Importing it loads torch and nothing heavier; the rest comes on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import connectors, data, errors, losses, models, schemes, tasks, teachers, weighting
    from .cli.distill import distill
    from .cli.train import train
    from .distiller import Distiller
    from .ledger import Batch, Ledger, Lesson, Row, Step
    from .path import Path
    from .teachers import Frozen

_HOMES = {
    "distill": "tutelage.cli.distill",
    "train": "tutelage.cli.train",
    "Distiller": "tutelage.distiller",
    "Path": "tutelage.path",
    "Frozen": "tutelage.teachers",
    "Batch": "tutelage.ledger",
    "Lesson": "tutelage.ledger",
    "Ledger": "tutelage.ledger",
    "Row": "tutelage.ledger",
    "Step": "tutelage.ledger",
}
_FOLDERS = ("connectors", "data", "errors", "losses", "models", "schemes", "tasks", "teachers", "weighting")

__all__ = [
    "Batch",
    "Distiller",
    "Frozen",
    "Ledger",
    "Lesson",
    "Path",
    "Row",
    "Step",
    "connectors",
    "data",
    "distill",
    "errors",
    "losses",
    "models",
    "schemes",
    "tasks",
    "teachers",
    "train",
    "weighting",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = _found(_HOMES[name], name)
    elif name in _FOLDERS:
        value = importlib.import_module(f"tutelage.{name}")
    else:
        raise AttributeError(f"module 'tutelage' has no attribute {name!r}")
    globals()[name] = value
    return value


def _found(home: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(home), name)
    except ImportError as error:
        from .errors import missing_extra

        if (missing := missing_extra(error)) is None:
            raise
        raise missing from error


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
