"""The use cases of sessions."""

from authsvc.sessions.sessions import Sessions

__all__ = ["Sessions"]
