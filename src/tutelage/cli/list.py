"""List: the parts there are, with the first line of what each says of itself."""

import importlib

from tutelage import data, models
from tutelage.errors import UnknownName, close_names
from tutelage.recipe import catalogue

KINDS = ("losses", "weightings", "schemes", "connectors", "tasks", "models", "data")


def list(kind: str) -> dict[str, str]:
    """The parts of a kind: name -> one line about it.

    Args:
        kind: One of losses, weightings, schemes, connectors, tasks, models, data.

    Raises:
        UnknownName: There is no such kind.

    Example:
        >>> list("schemes")["offline"]
        'Frozen teachers teach one student in one stage.'
    """
    if kind not in KINDS:
        raise UnknownName(f"list: there is no kind {kind!r}; {close_names(kind, KINDS)}.")
    if kind == "models":
        return dict.fromkeys(models.names(), "")
    if kind == "data":
        return data.names()
    folder = "weighting" if kind == "weightings" else kind
    module = importlib.import_module(f"tutelage.{folder}")
    parts = {name: getattr(module, attribute) for name, attribute in catalogue.names(folder).items()}
    if kind == "weightings":
        parts |= catalogue.solvers()
    return {
        name: (part.__doc__ or "").strip().partition("\n")[0] for name, part in parts.items() if name not in ("chain",)
    }
