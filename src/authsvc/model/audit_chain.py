"""The chain of an owner's audit events, and the detection of tampering. docs/audit.md has the format.

Each event contains its position and the hash of the previous event, and its own hash covers both. So an event
that was altered, removed, inserted or moved is detected. The head of the chain, a row of its own, shows
whether the newest events were removed. When whole months are dropped, the link at their end is kept. An
EVENTS_DROPPED event says which months were dropped, and an anchor says where they end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

from authsvc.model.audit_anchor import Anchor, MonthEnd
from authsvc.model.audit_drop import problem_of, start_of
from authsvc.model.audit_event import Action, ChainedEvent, Link, UnreadableEvent
from authsvc.model.caller import PLATFORM_OWNER

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION = "authsvc audit 1"

# How far the time of an event may differ from that of its recording, including the difference of clocks.
_TOLERANCE = timedelta(days=2)

# Before the first event of every chain.
BEGINNING = Link(0, bytes(32))


def hash_of(chained: ChainedEvent) -> bytes:
    """Return the correct hash of an event: SHA-256 over its fields as netstrings."""
    event, link, previous_hash = chained
    fields = [
        _VERSION,
        previous_hash.hex(),
        event.owner_id,
        str(link.position),
        event.event_id,
        str((event.event_time - _EPOCH) // timedelta(microseconds=1)),
        event.action,
        event.actor_id,
        event.actor_owner_id,
        event.actor_type,
        event.target_id,
        event.client_ip,
        event.request_id,
    ]
    for name, value in sorted(event.details.items()):
        fields += [name, value]
    encoded = (field.encode() for field in fields)
    return sha256(b"".join(b"%d:%b," % (len(field), field) for field in encoded)).digest()


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem of a chain. `event_id` is empty when it is not about one event."""

    owner_id: str
    position: int
    event_id: str
    problem: str


class Chain:
    """Checks the events of one owner, which are added one by one in the order of (event_time, position).

    The chain was read at one instant: `head` was its end, `dropped` the link that it continues from, and
    `dropped_before` the month before which all events were dropped, as an event says. Events that are newer
    than `head` are not checked; `has_more` says that there were some. `anchor` was kept elsewhere.
    """

    def __init__(
        self,
        owner_id: str,
        head: Link,
        dropped: Link = BEGINNING,
        dropped_before: date | None = None,
        *,
        has_more: bool = False,
    ) -> None:
        self.owner_id = owner_id
        self.head = head
        self.dropped = dropped
        self.dropped_before = dropped_before
        self.anchor: Anchor | None = None
        self.last = dropped
        self.events = 0
        self.has_more = has_more
        self._months: dict[date, int] = {}

    @property
    def months(self) -> tuple[MonthEnd, ...]:
        """The end of each month with events."""
        return tuple(MonthEnd(month, position) for month, position in sorted(self._months.items()))

    def add(self, chained: ChainedEvent | UnreadableEvent) -> Iterator[Fault]:
        """Check the next event."""
        link = chained.link
        if link.position > self.head.position:
            self.has_more = True
            return
        self.events += 1
        if isinstance(chained, UnreadableEvent):
            yield self._fault(chained, f"cannot be read: {chained.problem}")
        else:
            yield from self._check_event(chained)
        yield from self._compare(link)
        if link.position <= self.last.position:
            where = "was dropped before" if link.position <= self.dropped.position else "is taken already"
            yield self._fault(chained, f"was inserted or moved: its position {where}")
            return
        if link.position > self.last.position + 1:
            yield self._missing(link.position - 1)
        elif chained.previous_hash != self.last.hash:
            yield self._fault(chained, "does not follow the event before it, which has another hash")
        self.last = link

    def _check_event(self, chained: ChainedEvent) -> Iterator[Fault]:
        event = chained.event
        if hash_of(chained) != chained.link.hash:
            yield self._fault(chained, "was altered: its hash does not match")
        month = event.event_time.astimezone(UTC).date().replace(day=1)
        self._months[month] = chained.link.position
        if self.dropped_before and self.dropped.position and month < self.dropped_before:
            yield self._fault(chained, f"is from before {self.dropped_before}, which was all dropped")
        is_drop = event.owner_id == PLATFORM_OWNER and event.action == Action.EVENTS_DROPPED
        if is_drop and (problem := problem_of(chained)):
            yield self._fault(chained, problem)

    def catches_up(self, dropped: Link, dropped_before: date | None) -> None:
        """Take into account what was dropped while the events were being read."""
        if dropped.position > self.last.position:
            self.last = dropped
        self.dropped, self.dropped_before = dropped, dropped_before

    def end(self) -> Iterator[Fault]:
        """Check that the last event is the head, and that the drops are plausible."""
        if self.last.position < self.head.position:
            yield self._missing(self.head.position)
        elif self.last != self.head:
            problem = "the last event does not match the head of the chain"
            yield Fault(self.owner_id, self.head.position, "", problem)
        yield from self._compare(self.dropped)
        if self.anchor is not None and self.anchor.link.position > self.head.position:
            problem = f"the anchor is at {self.anchor.link.position}, beyond the head of the chain"
            yield Fault(self.owner_id, self.head.position, "", problem)
        if problem := self._problem_of_drop():
            yield Fault(self.owner_id, self.dropped.position, "", problem)

    def _problem_of_drop(self) -> str:
        upto = f"events up to {self.dropped.position} were dropped"
        if self.dropped.position and self.dropped_before is None:
            return f"{upto}: no event says before which month"
        if self.anchor is None:
            return ""
        month = self.dropped_before or date.min
        refusal = self.anchor.refusal(self.dropped.position, start_of(month), tolerance=_TOLERANCE)
        return f"{upto}: {refusal}" if refusal else ""

    def _compare(self, link: Link) -> Iterator[Fault]:
        anchor = self.anchor.link if self.anchor else BEGINNING
        if link.position == anchor.position and link.hash != anchor.hash:
            yield Fault(
                self.owner_id, link.position, "", "the anchor has another hash: history was rewritten"
            )

    def _missing(self, last: int) -> Fault:
        first = self.last.position + 1
        which = f"event {first} is" if first == last else f"events {first} to {last} are"
        return Fault(self.owner_id, first, "", f"{which} missing")

    def _fault(self, chained: ChainedEvent | UnreadableEvent, problem: str) -> Fault:
        event_id = chained.event_id if isinstance(chained, UnreadableEvent) else chained.event.event_id
        return Fault(self.owner_id, chained.link.position, event_id, problem)
