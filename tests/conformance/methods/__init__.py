"""What stands behind each method of the conformance vectors: `METHODS`, merged from the files of this folder.

Each file has its own `METHODS`: method -> ``adapter(tensors, hyperparameters) -> {name: tensor}``. `tensors`
are the case's, under their names in the file (``input:…``, ``param:…``, ``state:…``); those with an
``expect:grad:…`` are leaves that require gradient. Names are returned as expected, without ``expect:``. Where
``grad:X`` is not returned, it is the derivative of the returned ``loss`` by ``input:X`` or ``param:X``.
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
