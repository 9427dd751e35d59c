"""Sessions as rows."""

import json
from collections.abc import Collection
from datetime import datetime

import asyncpg

from authsvc.model.session import Session
from authsvc.model.session_query import SessionPosition
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("sessions.sql")


async def insert(
    connection: Connection, session: Session, *, secret_hash: str, by_credential: bool = True
) -> bool:
    """Insert a session that was opened; return False, with nothing done, if its creator was revoked.

    That can only be when it was opened `by_credential`.
    """
    inserted = await connection.fetchval(
        _SQL["insert_session"],
        session.session_id,
        session.owner_id,
        session.key_prefix,
        secret_hash,
        session.scopes,
        json.dumps(dict(session.annotations)),
        session.create_time,
        session.creator_id,
        session.latest_expire_time,
        session.idle_timeout,
        session.user_agent,
        session.ip_address,
        by_credential,
    )
    return inserted is not None


async def find(connection: Connection, session_ids: Collection[str]) -> dict[str, Session]:
    """Return those of the sessions that exist, by id."""
    rows = await connection.fetch(_SQL["find_sessions"], session_ids)
    return {row["session_id"]: from_row(row) for row in rows}


async def lock(connection: Connection, session_id: str, *, owner_id: str | None) -> Session | None:
    """Return a session, of this owner if one is given; nobody else changes it in this transaction."""
    if not await connection.fetchval(_SQL["lock_session"], session_id, owner_id):
        return None
    return (await find(connection, [session_id])).get(session_id)


async def page(
    connection: Connection,
    owner_id: str,
    *,
    include_ended: bool,
    now: datetime,
    size: int,
    after: SessionPosition | None,
) -> list[Session]:
    """Return sessions of an owner, the newest activity first."""
    last, session_id = after or (None, "")
    rows = await connection.fetch(_SQL["list_sessions"], owner_id, include_ended, now, last, session_id, size)
    return [from_row(row) for row in rows]


async def update_revocation(connection: Connection, session: Session) -> None:
    """Write when and by whom a session was ended."""
    await connection.execute(
        _SQL["update_revocation"], session.session_id, session.revoke_time, session.revoker_id
    )


async def end_all(connection: Connection, owner_id: str, *, at: datetime, by: str, but: str) -> int:
    """End all sessions of an owner but one; return how many were active."""
    count: int = await connection.fetchval(_SQL["count_active"], owner_id, at, but)
    epoch = await connection.fetchval(_SQL["end_all"], owner_id, at, by)
    if but and epoch is not None:
        await connection.execute(_SQL["keep_session"], but, epoch)
    return count


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
