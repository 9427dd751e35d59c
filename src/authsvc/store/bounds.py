"""Instants as the bounds of a search."""

from datetime import UTC, datetime, timedelta

# The driver sends the first and the last instant of Python as -infinity and infinity, which have a meaning in
# the indexes here: "never used" and "never expires".
_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta.resolution
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta.resolution


def bound(moment: datetime) -> datetime:
    """Return an instant of a filter as a parameter that PostgreSQL does not take to be infinite.

    The ends of the calendar are moved by a microsecond. No stored instant is that far away.
    """
    return min(max(moment, _FIRST), _LAST)
