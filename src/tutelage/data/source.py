"""What a reader of one layout hands over: the parts a data set brings, before anything is cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .slices import Slice


@dataclass(frozen=True)
class Source:
    """A data set as it was found.

    Args:
        name: What the user called it.
        layout: What was recognised, for people.
        parts: ``"train"``, and ``"selection"`` and ``"test"`` where the data set brings them.
        notes: What people should know, a line each.
    """

    name: str
    layout: str
    parts: Mapping[str, Slice]
    notes: list[str] = field(default_factory=list)
