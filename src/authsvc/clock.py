"""The clock of the service. Tests put their own in its place."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the time in UTC, by the wall clock of this machine."""
    return datetime.now(UTC)
