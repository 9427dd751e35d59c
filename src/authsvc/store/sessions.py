"""Sessions in the database."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

import asyncpg

from authsvc.model.audit_event import AuditEvent
from authsvc.model.client_hints import ClientHints
from authsvc.model.session import Session
from authsvc.model.session_query import SessionPosition
from authsvc.store.audit import events_json
from authsvc.store.pages import fetch, page_of
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("sessions.sql")
# How many sessions are counted when all sessions of an owner are ended. To count a million takes a second.
_MAX_COUNTED_ROWS = 10_000
_MICROSECOND = timedelta(microseconds=1)

# A session, the hash of its secret, and its audit event.
Opened: TypeAlias = tuple[Session, str, AuditEvent]


class EndedSessions(NamedTuple):
    """The number of active sessions that were ended, or a lower bound if they were too many to count."""

    active: int
    is_lower_bound: bool


async def insert(connection: Connection, opened: Sequence[Opened]) -> None:
    """Insert new sessions and their audit events, in one statement."""
    events = events_json([event for _, _, event in opened])
    await connection.execute(_SQL["insert_sessions"], _as_json(opened), events)


async def find(
    connection: Connection, session_ids: Collection[str], *, owner_id: str | None
) -> dict[str, Session]:
    """Return the existing ones of these sessions by id; with `owner_id`, only those of this owner."""
    rows = await connection.fetch(_SQL["find_sessions"], session_ids, owner_id)
    return {row["session_id"]: from_row(row) for row in rows}


async def page(
    connection: Connection,
    owner_id: str,
    *,
    include_ended: bool,
    now: datetime,
    size: int,
    after: SessionPosition | None,
) -> tuple[Sequence[Session], bool]:
    """Return at most `size` sessions, the newest activity first, and whether there are more."""
    last, session_id = after or (None, "")
    where = owner_id, include_ended, now, last, session_id
    found = await fetch(connection, _SQL["list_sessions"], *where, size + 1, size=size)
    return page_of(found, size, from_row)


async def update_revocation(connection: Connection, session: Session) -> None:
    """Write when and by whom a session was revoked."""
    await connection.execute(
        _SQL["update_revocation"], session.session_id, session.revoke_time, session.revoker_id
    )


async def end_all(
    connection: Connection, owner_id: str, *, at: datetime, by: str, excluding: str
) -> EndedSessions | None:
    """End all sessions of an owner except `excluding`, and count them; None if there were none.

    The transaction must have claimed `ends_sessions_of` this owner, so that no session is opened meanwhile.
    """
    epoch = await connection.fetchval(_SQL["end_all"], owner_id, at, by)
    if epoch is None:
        return None
    if excluding:
        await connection.execute(_SQL["keep_session"], excluding, epoch)
    counted = await connection.fetchrow(
        _SQL["count_ended"], owner_id, epoch, at, excluding, _MAX_COUNTED_ROWS + 1
    )
    if counted is None:
        raise AssertionError("an aggregate returns one row")
    return EndedSessions(min(counted["active"], _MAX_COUNTED_ROWS), counted["looked_at"] > _MAX_COUNTED_ROWS)


def from_row(row: asyncpg.Record) -> Session:
    """Return the session in a row of `session_records`."""
    return Session(
        session_id=row["session_id"],
        owner_id=row["owner_id"],
        key_prefix=row["key_prefix"],
        scopes=tuple(row["scopes"]),
        annotations=json.loads(row["annotations"]),
        create_time=row["create_time"],
        creator_id=row["creator_id"],
        latest_expire_time=row["latest_expire_time"],
        idle_timeout=row["idle_timeout"],
        last_activity_time=row["last_activity_time"],
        user_agent=row["user_agent"],
        ip_address=row["ip_address"],
        client_hints=ClientHints.of_json(row["client_hints"]),
        revoke_time=row["revoke_time"],
        revoker_id=row["revoker_id"],
    )


def _as_json(opened: Sequence[Opened]) -> str:
    return json.dumps(
        [
            {
                "session_id": session.session_id,
                "owner_id": session.owner_id,
                "key_prefix": session.key_prefix,
                "secret_hash": secret_hash,
                "scopes": session.scopes,
                "annotations": dict(session.annotations),
                "create_time": session.create_time.isoformat(),
                "creator_id": session.creator_id,
                "latest_expire_time": session.latest_expire_time.isoformat(),
                "idle_timeout": f"{session.idle_timeout / _MICROSECOND} us",
                "user_agent": session.user_agent,
                "ip_address": session.ip_address,
                "client_hints": session.client_hints.as_dict(),
            }
            for session, secret_hash, _ in opened
        ]
    )
