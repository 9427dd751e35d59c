"""The chain of an owner's audit events, and how tampering shows. docs/audit.md has the format.

Each event holds its position and the hash of the event before it, and is hashed with both. So
one that was altered, removed, inserted or moved shows; the head, a row of its own, shows when
the newest were removed. What was dropped in whole months has left the link that it ended with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from authsvc.model.audit_event import ChainedEvent, Link

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION = "authsvc audit 1"

# Before the first event of every chain.
BEGINNING = Link(0, bytes(32))


def hash_of(chained: ChainedEvent) -> bytes:
    """Return the hash that an event has to have: SHA-256 over its fields as netstrings."""
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
    """Something that is wrong with a chain. `event_id` is empty where there is no event to name."""

    owner_id: str
    position: int
    event_id: str
    problem: str


class Chain:
    """Checks the events of one owner, which come one by one in the order of (event_time, position).

    It was read at an instant: `head` was its end then, `dropped` what it went on from.
    Later events are let pass, and `has_more` says that there were some. `anchor` is a link
    that was kept elsewhere.
    """

    def __init__(
        self, owner_id: str, head: Link, dropped: Link = BEGINNING, *, has_more: bool = False
    ) -> None:
        self.owner_id = owner_id
        self.head = head
        self.dropped = dropped
        self.anchor = BEGINNING
        self.last = dropped
        self.events = 0
        self.has_more = has_more

    def add(self, chained: ChainedEvent) -> Iterator[Fault]:
        """Check the next event."""
        _, link, previous_hash = chained
        if link.position > self.head.position:
            self.has_more = True
            return
        self.events += 1
        altered = hash_of(chained) != link.hash
        if altered:
            yield self._fault(chained, "was altered: its hash is another")
        yield from self._compare(link)
        if link.position <= self.last.position:
            where = "was dropped before" if link.position <= self.dropped.position else "is there already"
            yield self._fault(chained, f"was inserted or moved: its position {where}")
            return
        if link.position > self.last.position + 1:
            yield self._missing(link.position - 1)
        elif previous_hash != self.last.hash:
            yield self._fault(chained, "does not follow the event before it, which has another hash")
        self.last = link

    def catches_up(self, dropped: Link) -> None:
        """Take note of what was dropped while the events were being read."""
        if dropped.position > self.last.position:
            self.last = dropped
        self.dropped = dropped

    def end(self) -> Iterator[Fault]:
        """Check that the last event is the head."""
        if self.last.position < self.head.position:
            yield self._missing(self.head.position)
        elif self.last != self.head:
            yield Fault(self.owner_id, self.head.position, "", "the head of the chain is another")
        yield from self._compare(self.dropped)
        if self.anchor.position > self.head.position:
            problem = f"the anchor is at {self.anchor.position}, beyond the head of the chain"
            yield Fault(self.owner_id, self.head.position, "", problem)

    def _compare(self, link: Link) -> Iterator[Fault]:
        if link.position == self.anchor.position and link.hash != self.anchor.hash:
            yield Fault(
                self.owner_id, link.position, "", "the anchor has another hash: history was rewritten"
            )

    def _missing(self, last: int) -> Fault:
        first = self.last.position + 1
        which = f"event {first} is" if first == last else f"events {first} to {last} are"
        return Fault(self.owner_id, first, "", f"{which} missing")

    def _fault(self, chained: ChainedEvent, problem: str) -> Fault:
        return Fault(self.owner_id, chained.link.position, chained.event.event_id, problem)
