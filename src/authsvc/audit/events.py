"""Records what was done, in the transaction that does it.

A change calls `record` or `record_many` once, after its other statements (`store.audit.record` explains the
order of locks). If the change is rolled back, so is its event.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.store import audit as audit_store
from authsvc.store.pool import Connection


async def record(
    connection: Connection,
    caller: Caller,
    action: Action,
    *,
    at: datetime,
    target_id: str,
    owner_id: str,
    details: Mapping[str, str] | None = None,
) -> None:
    """Record that a caller did this to a target of an owner. `at` is in UTC, `details` hold no secrets."""
    event = AuditEvent.of(caller, action, at=at, target_id=target_id, owner_id=owner_id, details=details)
    await audit_store.record(connection, [event])


async def record_many(connection: Connection, events: Sequence[AuditEvent]) -> None:
    """Record several events, of any owners, in one round trip."""
    await audit_store.record(connection, events)
