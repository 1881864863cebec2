"""Offline: trained teachers, one student. The scheme of most papers."""

from collections.abc import Iterator

from .base import Cast, Stage


def offline(cast: Cast) -> Iterator[Stage]:
    """Frozen teachers teach one student in one stage.

    Reference:
        Hinton, Vinyals & Dean 2015, arXiv:1503.02531.
    """
    yield Stage("student", {"student": cast.distiller(cast.model("student"), cast.teachers())})
