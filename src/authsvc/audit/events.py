"""The audit log: what was done is recorded in the transaction that does it; later it is listed and verified.

Each change calls `record` once, after its locks and before its end (see `store.audit.record`
on the order of locks). What the change becomes of becomes of its event.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from authsvc.model.audit_event import Action, AuditEvent, AuditPosition, AuditQuery, ChainedEvent
from authsvc.model.caller import Caller
from authsvc.model.page_token import PageTokens
from authsvc.store import audit as audit_store
from authsvc.store.pool import Connection, Database


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
    """Record that a caller did this to a target, which belongs to an owner."""
    event = AuditEvent.of(caller, action, at=at, target_id=target_id, owner_id=owner_id, details=details)
    await audit_store.record(connection, [event])


async def record_many(connection: Connection, events: Sequence[AuditEvent]) -> None:
    """Record several events, of any owners, in one round trip."""
    await audit_store.record(connection, events)


class Audit:
    """The use cases of AuditService."""

    def __init__(self, *, database: Database, page_tokens: PageTokens) -> None:
        self._database = database
        self._page_tokens = page_tokens

    async def list(
        self, caller: Caller, query: AuditQuery, *, page_size: int, page_token: str
    ) -> tuple[Sequence[ChainedEvent], str]:
        """Return a page of an owner's events, and the token of the next page ("" on the last)."""
        caller.refuse_other_owner(query.owner_id)
        after = AuditPosition.read(self._page_tokens.open(query, page_token)) if page_token else None
        async with self._database.listing(caller.quota_owner) as connection:
            page, more = await audit_store.page(connection, query, size=page_size, after=after)
        if not more:
            return page, ""
        last = page[-1]
        return page, self._page_tokens.seal(query, (last.event.event_time, str(last.link.position)))
