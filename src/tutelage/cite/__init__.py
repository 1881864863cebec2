"""What the parts of a recipe were taken from, as BibTeX."""

from .bibliography import Citation, cite, read_entries

__all__ = ["Citation", "cite", "read_entries"]
