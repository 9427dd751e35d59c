"""What is known of the use of a key, as it is asked for and shown."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple

from authsvc.model.errors import Conflict, FieldViolation, InvalidArgument
from authsvc.model.key import Key

#: The days that are shown if a request names none, and the most that it can ask for.
DEFAULT_DAYS, MAX_DAYS = 30, 400
_ETAG_LENGTH = 25


class UsageGroup(Enum):
    """What uses are grouped by."""

    DAY = "day"
    VERIFIER = "verifier"
    NETWORK = "network"
    PROGRAM = "program"


class UsageRow(NamedTuple):
    """Uses with what they have in common; what they are not grouped by is None or ""."""

    day: date | None
    verifier_id: str
    network: str
    program: str
    uses: int
    last_use_time: datetime


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which uses of a key to list: those of some days, both included, by groups."""

    key_id: str
    first_day: date
    last_day: date
    groups: frozenset[UsageGroup]

    def __repr__(self) -> str:
        """Return a text that is the same in every process, for page tokens."""
        groups = ",".join(sorted(group.value for group in self.groups))
        return f"UsageQuery({self.key_id}, {self.first_day}, {self.last_day}, {groups})"


def utc_day(now: datetime) -> date:
    """Return the day of an instant, in UTC."""
    return now.astimezone(UTC).date()


def since_day(now: datetime, days: int) -> date:
    """Return the first of so many days, of which the last is today; of the default number for 0."""
    return utc_day(now) - timedelta(days=(days or DEFAULT_DAYS) - 1)


def checked_days(first: str, last: str, now: datetime) -> tuple[date, date]:
    """Return the days from texts like `2026-01-31`, by default the last 30.

    Raises InvalidArgument, for `first_day` or `last_day`.
    """
    last_day = _day("last_day", last) or max(utc_day(now), _day("first_day", first) or date.min)
    default = max(last_day.toordinal() - DEFAULT_DAYS + 1, 1)
    first_day = _day("first_day", first) or date.fromordinal(default)
    if first_day > last_day:
        raise _refused("first_day", "is after last_day; choose an earlier day")
    if (last_day - first_day).days >= MAX_DAYS:
        raise _refused("first_day", f"is more than {MAX_DAYS} days before the end; ask for fewer days")
    return first_day, last_day


def _day(path: str, text: str) -> date | None:
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise _refused(path, "is not a day; use the form 2026-01-31")
    return found


def _refused(path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(FieldViolation(path, "day", problem))


class Place(NamedTuple):
    """A verifier, and a network that it was shown a key from."""

    verifier_id: str
    network: str


def preview_etag(key: Key, since: date, places: list[Place]) -> str:
    """Return an identifier of a version of a key and of the places of its uses since a day.

    It says since when, so that it is compared with the places since the same day, which only become more.
    """
    digest = blake2b(f"{key.key_id}/{key.version}".encode(), digest_size=8)
    for place in sorted(places):
        for text in place:
            digest.update(f"{len(text)}:{text}".encode())
    return f"{since:%Y%m%d}-{digest.hexdigest()}"


def etag_day(etag: str) -> date | None:
    """Return since when the etag of a preview counts; None for a text that is not one."""
    day, _, digest = etag.partition("-")
    if len(etag) != _ETAG_LENGTH or not (day.isascii() and day.isdecimal() and digest.isascii()):
        return None
    try:
        return date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        return None


def preview_outdated(key_id: str) -> Conflict:
    """Return the error of a revocation whose preview is not true any more."""
    return Conflict(
        f"key {key_id} was changed, or was used by another verifier or from another network, since the "
        "preview that this etag is of; preview the revocation again",
        reason="ETAG_MISMATCH",
        key_id=key_id,
    )
