"""Whether events that were listed are a chain: none altered, none missing between the first and the last.

That needs no trust in the database of today: each event has the hash of the one before it. Only
`authsvc audit verify` can tell whether the newest events were removed.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from authsvc.model.audit_chain import hash_of
from authsvc.model.audit_event import AuditEvent, ChainedEvent, Link
from authsvc.v1 import audit_service_pb2 as pb
from authsvc.web.console.shown import instant

# Events that are checked before others get their turn; each takes some 10 µs.
_SLICE = 100
_TYPES = {pb.ActorType.ACTOR_TYPE_KEY: "key", pb.ActorType.ACTOR_TYPE_SESSION: "session"}


class Checked(NamedTuple):
    """How many events were checked, from the newest one back, and the position of the first fault, if any."""

    checked: int = 0
    fault: int = 0
    # The position and the hash that the next event has to have.
    expected: Link | None = None
    # Events of a later version, whose own hash cannot be computed here.
    unknown: int = 0
    has_more: bool = False


WHOLE = Checked()


async def check(
    events: Iterable[pb.AuditEvent], action_of: Callable[[pb.AuditEvent], str], so_far: Checked
) -> Checked:
    """Check further events, newest first."""
    count, _, expected, unknown, _ = so_far
    for event in events:
        count += 1
        if count % _SLICE == 0:
            await asyncio.sleep(0)
        link = Link(event.position, event.hash)
        action = action_of(event)
        is_right = expected in (None, link) and (not action or _hash(event, action) == event.hash)
        if not is_right:
            return Checked(count, event.position, None, unknown)
        unknown += not action
        expected = Link(event.position - 1, event.previous_hash)
    return Checked(count, 0, expected, unknown)


def _hash(event: pb.AuditEvent, action: str) -> bytes:
    return hash_of(
        ChainedEvent(
            AuditEvent(
                event_id=event.event_id,
                event_time=instant(event.event_time),
                action=action,
                actor_id=event.actor_id,
                actor_owner_id=event.actor_owner_id,
                actor_type=_TYPES.get(event.actor_type, ""),
                owner_id=event.owner_id,
                target_id=event.target_id,
                client_ip=event.client_ip,
                request_id=event.request_id,
                details=event.details,
            ),
            Link(event.position, event.hash),
            event.previous_hash,
        )
    )
