"""The engine: stages under Lightning, and a whole run around them. Nothing else imports Lightning."""

from .settings import Settings

__all__ = ["Settings"]
