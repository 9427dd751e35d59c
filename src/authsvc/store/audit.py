"""Audit events in their chains. A function of the schema writes them; the serving role cannot bypass it."""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, Self

import asyncpg

from authsvc.model.audit_chain import BEGINNING, Chain
from authsvc.model.audit_drop import NO_DROPS, hash_of_drops, read_month
from authsvc.model.audit_event import (
    Action,
    AuditEvent,
    AuditPosition,
    AuditQuery,
    ChainedEvent,
    Link,
    UnreadableEvent,
)
from authsvc.store.bounds import bound
from authsvc.store.pages import Fetched, fetch, page_of
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("audit.sql")
_END = 2**63 - 1
_FIELDS = tuple(field.name for field in fields(AuditEvent))


async def record(connection: Connection, events: Sequence[AuditEvent]) -> None:
    """Append each event to the chain of its owner, in one round trip; in none without events.

    Call it after all locks of owners, keys and sessions were taken, and before the entry of the feed is
    published. It locks the heads of the chains in the order of owners. This order prevents deadlocks.
    """
    if events:
        await connection.execute(_SQL["record"], events_json(events))


def events_json(events: Sequence[AuditEvent]) -> str:
    """Return events in the form that the function `record_audit` of the schema expects."""
    return json.dumps(plain(events), default=instant_text)


def plain(events: Sequence[AuditEvent]) -> list[dict[str, object]]:
    """Return the same before it is JSON. Instants become texts by `instant_text`."""
    # Not `asdict`, which copies each value and takes longer than everything else here.
    return [{name: getattr(event, name) for name in _FIELDS} for event in events]


async def page(
    connection: Connection, query: AuditQuery, *, size: int, after: AuditPosition | None
) -> tuple[Sequence[ChainedEvent], bool]:
    """Return at most `size` events that follow a position, the newest first, and whether there are more."""
    since = None if query.time_after is None else bound(query.time_after)
    until = None if query.time_before is None else bound(query.time_before)
    before, position = after or (until, _END if until is None else 0)
    where = query.owner_id, since, before, position, size + 1
    # Without a filter, all actions that this version knows, because the index is by action.
    actions = list(query.actions or Action)
    more: tuple[object, ...]
    if query.target_id:
        name, more = "list_events_of_target", (query.target_id, query.actor_id, query.actions)
    elif query.actor_id:
        name, more = "list_events_of_actor", (actions, query.actor_id)
    elif query.actions:
        name, more = "list_events_of_actions", (actions,)
    else:
        name, more = "list_events", ()
    found = await fetch(connection, _SQL[name], *where, *more, size=size)
    return page_of(_after_position(found, query.after_position), size, from_row)


def _after_position(found: Fetched, position: int) -> Fetched:
    """Return the first rows, up to a position. All that follows is older: positions fall along each list."""
    rows = [row for row in found.rows if row["position"] > position]
    return Fetched(rows, found.is_cut and len(rows) == len(found.rows))


async def find_ends(connection: Connection, *, after: str, only: str, size: int) -> list[Chain]:
    """Return the next `size` chains in the order of owners; with `only`, the chain of that owner."""
    rows = await connection.fetch(_SQL["find_ends"], after, only, size)
    return [
        Chain(
            row["owner_id"],
            Link(row["position"], row["hash"]),
            BEGINNING
            if row["dropped_position"] is None
            else Link(row["dropped_position"], row["dropped_hash"]),
            read_month(row["dropped_before"]),
        )
        for row in rows
    ]


class Reached(NamedTuple):
    """The last event of a walk so far. `time` is a text, because its range is larger than that of Python."""

    owner_id: str
    time: str
    position: int

    @classmethod
    def start_of(cls, owner_id: str) -> Self:
        """Return the place before all events of an owner."""
        return cls(owner_id, "-infinity", 0)

    @classmethod
    def end_of(cls, owner_id: str) -> Self:
        """Return the place after all events of an owner."""
        return cls(owner_id, "infinity", _END)


async def walk(
    connection: Connection, after: Reached, *, last: str, size: int
) -> tuple[list[ChainedEvent | UnreadableEvent], Reached]:
    """Return the next events, ordered by owner and time, and the position of the last one.

    The walk ends with the owner `last`; "" means no end.
    """
    rows = await connection.fetch(_SQL["walk_events"], *after, last, size, timeout=600)
    if rows:
        after = Reached(rows[-1]["owner_id"], rows[-1]["reached"], rows[-1]["position"])
    return [_checked(row) for row in rows], after


async def read_drops(
    connection: Connection, *, size: int
) -> tuple[ChainedEvent | UnreadableEvent | None, bytes]:
    """Return the last EVENTS_DROPPED event, if any, and the hash over all drops, in one snapshot.

    Must be the first statement of a transaction.
    """
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    event = await connection.fetchrow(_SQL["find_last_drop"])
    so_far, owner_id = NO_DROPS, ""
    while drops := await connection.fetch(_SQL["list_drops"], owner_id, size):
        for owner_id, position, dropped in drops:
            so_far = hash_of_drops(so_far, owner_id, Link(position, dropped))
    return None if event is None else _checked(event), so_far


async def retention(connection: Connection) -> timedelta | None:
    """Return how long events are kept, as stored in the schema; zero for ever, None if it was never set."""
    kept: timedelta | None = await connection.fetchval(_SQL["retention"])
    return kept


async def is_beyond_head(connection: Connection, owner_id: str) -> bool:
    """Return whether an owner has an event beyond the head of its chain."""
    return bool(await connection.fetchval(_SQL["is_beyond_head"], owner_id, timeout=600))


async def make_month(connection: Connection, month: date) -> bool:
    """Create the partition of a month; return whether it did not exist."""
    return bool(await connection.fetchval(_SQL["make_month"], month, timeout=600))


async def drop_before(connection: Connection, month: date) -> int:
    """Drop all events before a month, and record where each chain continues; return the number of events."""
    if not await connection.fetchval(_SQL["has_before"], datetime.combine(month, time(), UTC), timeout=600):
        return 0
    return int(await connection.fetchval(_SQL["drop_before"], month, timeout=3600))


def from_row(row: asyncpg.Record) -> ChainedEvent:
    """Return the event of a row of `audit_events`."""
    event = AuditEvent(
        event_id=row["event_id"],
        event_time=row["event_time"],
        action=row["action"],
        actor_id=row["actor_id"],
        actor_owner_id=row["actor_owner_id"],
        actor_type=row["actor_type"],
        owner_id=row["owner_id"],
        target_id=row["target_id"],
        client_ip=row["client_ip"],
        request_id=row["request_id"],
        details=json.loads(row["details"]),
    )
    return ChainedEvent(event, Link(row["position"], row["hash"]), row["previous_hash"])


def _checked(row: asyncpg.Record) -> ChainedEvent | UnreadableEvent:
    """Return the event of a row, which may have been tampered with."""
    problem = ""
    if row["event_time"] is None:
        problem = f"its time is {row['reached']}"
    else:
        try:
            chained = from_row(row)
        except (ValueError, RecursionError):
            problem = "its details cannot be read as JSON"
        else:
            details: object = chained.event.details
            if isinstance(details, dict) and all(isinstance(value, str) for value in details.values()):
                return chained
            problem = "its details are not an object of texts"
    link = Link(row["position"], row["hash"])
    return UnreadableEvent(row["owner_id"], row["event_id"], link, row["previous_hash"], problem)


def instant_text(moment: object) -> str:
    """Return an instant as a text; raise TypeError for anything else that is not JSON."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{moment!r} cannot be stored in an event")
    return moment.isoformat()
