"""Anchors: facts about the audit log that are kept outside of the database, to verify it against later.

A file of anchors is text. The first line has the time at which it was written. Each further line has the
owner (percent-encoded if necessary), the position and hash of the end of its chain, the position up to which
events had been dropped, and for each month (UTC) with events the position of the last one:

    authsvc anchors 2 2026-11-21T03:00:00+00:00
    acme 60 5f0c… 12 202609:31,202610:48,202611:60

Files of version 1 have no time, and only the first three fields.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Self
from urllib.parse import quote, unquote

from authsvc.model.audit_event import Link

_HEADER = "authsvc anchors 2 "
_HASH_LENGTH = 32
_MONTH = re.compile(r"(\d{4})(\d{2}):(\d{1,19})", re.ASCII)


class MonthEnd(NamedTuple):
    """The last event of a chain in a month, by its position. `month` is its first day."""

    month: date
    position: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of an owner's chain at a time. Without a time, `dropped` and `months` are unknown."""

    owner_id: str
    link: Link
    time: datetime | None = None
    dropped: int = 0
    months: tuple[MonthEnd, ...] = ()

    def __str__(self) -> str:
        months = ",".join(f"{month:%Y%m}:{position}" for month, position in self.months)
        end = f"{self.link.position} {self.link.hash.hex()} {self.dropped}"
        return f"{quote(self.owner_id, safe=':@')} {end} {months or '-'}"

    @classmethod
    def parse(cls, line: str, time: datetime | None = None) -> Self:
        """Return the anchor in a line of a file that was written at `time`. Raises ValueError."""
        owner_id, position, text, *more = line.split()
        link = Link(int(position), bytes.fromhex(text))
        if len(link.hash) != _HASH_LENGTH:
            raise ValueError("a hash has 64 hexadecimal digits")
        owner_id = unquote(owner_id, errors="strict")
        if time is None:
            if more:
                raise ValueError("too many fields for a file without a time")
            return cls(owner_id, link)
        dropped, months = more
        ends = () if months == "-" else tuple(map(_month_end, months.split(",")))
        return cls(owner_id, link, time, int(dropped), ends)

    def refusal(self, dropped: int, begin: datetime, *, tolerance: timedelta) -> str:
        """Return why events up to `dropped` cannot be all those before a month; empty if they can be.

        An event may have a time up to `tolerance` before it was recorded.
        """
        if self.time is None or dropped == self.dropped:
            return ""
        if dropped < self.dropped:
            return f"according to the anchor, events up to {self.dropped} had been dropped before"
        month = begin.date()
        old = max((end.position for end in self.months if end.month < month), default=self.dropped)
        if dropped == old:
            return ""
        # More events are older only if they were recorded after the anchor, and it was written before the
        # month.
        if dropped > old and old >= self.link.position and self.time < begin + tolerance:
            return ""
        return f"according to the anchor, the events before {month} end at {old}"


def header(time: datetime) -> str:
    """Return the first line of a file of anchors."""
    return f"{_HEADER}{time.astimezone(UTC).isoformat(timespec='seconds')}"


def read_anchors(lines: Iterable[str]) -> Iterator[Anchor]:
    """Yield the anchors of a file, ordered by owner. Raises ValueError with the number of a bad line."""
    time, last = None, ""
    for number, line in enumerate(lines, 1):
        try:
            if number == 1 and line.startswith(_HEADER):
                time = datetime.fromisoformat(line.removeprefix(_HEADER).strip())
                if time.tzinfo is None:
                    raise ValueError("a time without a zone")
                continue
            found = Anchor.parse(line, time)
        except ValueError:
            raise ValueError(f"line {number}: not a valid anchor; --write-anchor writes them") from None
        if found.owner_id <= last:
            raise ValueError(f"line {number}: owners are not in order; use the file as it was written")
        last = found.owner_id
        yield found


def _month_end(text: str) -> MonthEnd:
    match = _MONTH.fullmatch(text)
    if match is None:
        raise ValueError("a month is written like 202611:60")
    return MonthEnd(date(int(match[1]), int(match[2]), 1), int(match[3]))
