"""The record of old months that were dropped from the audit log.

Old months are dropped from all chains at once. For each owner, a row keeps the link from which the chain
continues. An EVENTS_DROPPED event in the platform's chain says before which month, and contains a hash over
all those rows. So a row that somebody wrote by hand does not match any event.
"""

from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256

from authsvc.model.audit_event import ChainedEvent, Link

# The schema refuses to drop younger events.
MIN_AGE = timedelta(days=90)
# The hash over no rows.
NO_DROPS = bytes(32)


def hash_of_drops(so_far: bytes, owner_id: str, link: Link) -> bytes:
    """Return the hash over the rows so far and the next one; rows are in the order of owners."""
    fields = (so_far.hex(), owner_id, str(link.position), link.hash.hex())
    encoded = (field.encode() for field in fields)
    return sha256(b"".join(b"%d:%b," % (len(field), field) for field in encoded)).digest()


def read_month(text: str | None) -> date | None:
    """Return the first day of a month that is written like 2026-11-01; None for anything else."""
    try:
        day = date.fromisoformat(text or "")
    except ValueError:
        return None
    return day if day.day == 1 and day.isoformat() == text else None


def start_of(month: date) -> datetime:
    """Return the instant at which a month begins, in UTC."""
    return datetime.combine(month, time(), UTC)


def problem_of(chained: ChainedEvent) -> str:
    """Return the problem of an EVENTS_DROPPED event; empty if there is none."""
    month = read_month(chained.event.details.get("before"))
    if month is None:
        return "does not say before which month events were dropped"
    if chained.event.event_time - start_of(month) < MIN_AGE:
        return f"says that events before {month} were dropped, less than {MIN_AGE.days} days after that"
    return ""
