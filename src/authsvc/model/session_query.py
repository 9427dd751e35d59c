"""The query of ListSessions, and its position."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from authsvc.model.page_token import Position


class SessionPosition(NamedTuple):
    """The last session of a page."""

    last_activity_time: datetime
    session_id: str

    @classmethod
    def read(cls, position: Position) -> "SessionPosition":
        """Return the position from a page token."""
        value, session_id = position
        if not isinstance(value, datetime):
            raise TypeError(f"sessions are in the order of instants, not of {value!r}")
        return cls(value, session_id)


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """The sessions of an owner, the newest activity first."""

    owner_id: str
    include_ended: bool
