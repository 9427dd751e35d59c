"""The use cases of API keys."""

from authsvc.keys.keys import Keys

__all__ = ["Keys"]
