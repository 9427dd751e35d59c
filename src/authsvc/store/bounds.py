"""Instants that bound what is searched for."""

from datetime import UTC, datetime, timedelta

# The driver sends the first and the last instant that Python knows as -infinity and infinity. Those words are
# ours: in an index they stand for "never used" and "never expires".
_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta.resolution
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta.resolution


def bound(moment: datetime) -> datetime:
    """Return an instant that somebody filters by as a parameter that PostgreSQL takes for an instant.

    The ends of the calendar move inwards by a microsecond. Nothing is stored there, so all else is the same.
    """
    return min(max(moment, _FIRST), _LAST)
