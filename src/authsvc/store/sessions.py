"""Sessions as rows."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import asyncpg

from authsvc.model.audit_event import AuditEvent
from authsvc.model.session import Session
from authsvc.model.session_query import SessionPosition
from authsvc.store.audit import events_json
from authsvc.store.pages import page_of
from authsvc.store.pool import Connection, Database
from authsvc.store.queries import load_queries
from authsvc.store.shared_statement import SharedStatement

_SQL = load_queries("sessions.sql")
_MOST_OPENING = 1000
_MICROSECOND = timedelta(microseconds=1)


class SessionInserts:
    """Opens sessions; those of a moment share one statement, and so one commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._inserting = SharedStatement(
            self._insert,
            most_waiting=_MOST_OPENING,
            full="too many sessions are being opened",
            # While the database works on one, the next is made ready.
            most_sharing=16,
            at_once=2,
        )

    async def insert(self, session: Session, event: AuditEvent, *, secret_hash: str) -> bool:
        """Insert a session that was opened, and what the audit log is to say of it.

        Return False, with nothing done, if its creator was revoked.
        """
        return await self._inserting.ask((session, secret_hash, event))

    async def _insert(self, opened: Sequence[tuple[Session, str, AuditEvent]]) -> list[bool]:
        openers = {session.creator_id for session, _, _ in opened}
        events = events_json([event for _, _, event in opened])
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["insert_sessions"], _as_json(opened), list(openers), events)
        inserted = {row["session_id"] for row in rows}
        return [session.session_id in inserted for session, _, _ in opened]


async def find(
    connection: Connection, session_ids: Collection[str], *, owner_id: str | None
) -> dict[str, Session]:
    """Return those of the sessions that exist, by id; with `owner_id`, only those of this owner."""
    rows = await connection.fetch(_SQL["find_sessions"], session_ids, owner_id)
    return {row["session_id"]: from_row(row) for row in rows}


async def lock(connection: Connection, session_id: str, *, owner_id: str | None) -> Session | None:
    """Return a session, of this owner if one is given; nobody else changes it in this transaction."""
    if not await connection.fetchval(_SQL["lock_session"], session_id, owner_id):
        return None
    return (await find(connection, [session_id], owner_id=owner_id)).get(session_id)


async def page(
    connection: Connection,
    owner_id: str,
    *,
    include_ended: bool,
    now: datetime,
    size: int,
    after: SessionPosition | None,
) -> tuple[list[Session], bool]:
    """Return a page of at most `size` sessions, the newest activity first, and whether there are more."""
    last, session_id = after or (None, "")
    where = owner_id, include_ended, now, last, session_id
    rows = await connection.fetch(_SQL["list_sessions"], *where, size + 1)
    return await page_of(rows, size, from_row)


async def update_revocation(connection: Connection, session: Session) -> None:
    """Write when and by whom a session was ended."""
    await connection.execute(
        _SQL["update_revocation"], session.session_id, session.revoke_time, session.revoker_id
    )


async def end_all(
    connection: Connection, owner_id: str, *, at: datetime, by: str, but: str
) -> tuple[int, bool]:
    """End all sessions of an owner but one; return how many were active, and whether any were there."""
    count: int = await connection.fetchval(_SQL["count_active"], owner_id, at, but)
    epoch = await connection.fetchval(_SQL["end_all"], owner_id, at, by)
    if but and epoch is not None:
        await connection.execute(_SQL["keep_session"], but, epoch)
    return count, epoch is not None


async def lock_owner(connection: Connection, owner_id: str) -> None:
    """Keep others out who end all sessions of an owner, until this transaction ends."""
    await connection.execute(_SQL["lock_owner_sessions"], owner_id)


def from_row(row: asyncpg.Record) -> Session:
    """Return the session of a row of `session_rows`."""
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
        revoke_time=row["revoke_time"],
        revoker_id=row["revoker_id"],
    )


def _as_json(opened: Sequence[tuple[Session, str, AuditEvent]]) -> str:
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
                "by_credential": bool(event.actor_type),
                "latest_expire_time": session.latest_expire_time.isoformat(),
                "idle_timeout": f"{session.idle_timeout / _MICROSECOND} us",
                "user_agent": session.user_agent,
                "ip_address": session.ip_address,
            }
            for session, secret_hash, event in opened
        ]
    )
