"""What stands behind each method of the conformance vectors: `METHODS`, merged from the files of this folder.

Each file has its own `METHODS`: method -> ``adapter(tensors, hyperparameters) -> {name: tensor}``. `tensors`
are the case's, under their names in the file (``input:…``, ``param:…``, ``state:…``); those with an
``expect:grad:…`` are leaves that require gradient. The names returned are the expected ones without ``expect:``.
A ``grad:X`` that is not returned is taken to be the derivative of the returned ``loss`` with respect to
``input:X`` or ``param:X``.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Adapter = Callable[[Mapping[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]

METHODS: dict[str, Adapter] = {}
for _file in pkgutil.iter_modules(__path__):
    METHODS |= importlib.import_module(f"{__name__}.{_file.name}").METHODS
