"""Methods side by side: what their names mean, what they reached, and how they rank."""

from .leaderboard import leaderboard
from .methods import Method, read_method, without
from .results import Results, key

__all__ = ["Method", "Results", "key", "leaderboard", "read_method", "without"]
