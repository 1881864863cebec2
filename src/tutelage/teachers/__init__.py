"""Who answers a batch: live networks now, cached answers and fellow pupils by the same interface."""

from .base import Teacher
from .cached import Cached
from .frozen import Frozen
from .peer import Peer

__all__ = ["Cached", "Frozen", "Peer", "Teacher"]
