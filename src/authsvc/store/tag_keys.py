"""Tag keys as rows."""

import secrets
from datetime import datetime
from typing import NamedTuple

import asyncpg

from authsvc.model.errors import PermissionDenied
from authsvc.model.tag_key import AcceptedTagKeys, TagKey, TagKeyState
from authsvc.store.migrate import MigrationError
from authsvc.store.pool import Connection, Database
from authsvc.store.queries import load_queries

_SQL = load_queries("tag_keys.sql")
_LENGTH = 32
# Every key and session is looked at.
_COUNTING_TAKES = 600.0


class Alive(NamedTuple):
    """How many keys and sessions are alive whose strings were minted under a tag key."""

    keys: int
    sessions: int


async def accepted(database: Database) -> AcceptedTagKeys:
    """Return what a worker accepts; raise MigrationError if there is no tag key."""
    async with database.connection() as connection:
        found = await connection.fetchval(_SQL["find_accepted"])
    if found is None:
        raise MigrationError(
            "authsvc.tag_keys holds no tag key that is accepted, and `authsvc migrate` made one: restore the "
            "table from a back-up, since no key string can be verified without"
        )
    return AcceptedTagKeys(tuple(found))


async def lock(connection: Connection) -> list[TagKey]:
    """Return all tag keys; nobody else changes them before this transaction ends.

    Raises PermissionDenied for a role that may not.
    """
    try:
        await connection.execute(_SQL["lock_tag_keys"])
    except asyncpg.InsufficientPrivilegeError as error:
        raise PermissionDenied(
            "the role that serves may not change tag keys: set AUTHSVC_MIGRATION_DATABASE_URL to the owner's",
            reason="DATABASE_ROLE",
        ) from error
    return await list_all(connection)


async def list_all(connection: Connection) -> list[TagKey]:
    """Return all tag keys, the oldest first."""
    return [
        TagKey(
            tag_key_id=row["tag_key_id"],
            state=TagKeyState(row["state"]),
            create_time=row["create_time"],
            mint_time=row["mint_time"],
            rest_time=row["rest_time"],
            retire_time=row["retire_time"],
        )
        for row in await connection.fetch(_SQL["list_tag_keys"])
    ]


async def now(connection: Connection) -> datetime:
    """Return the database's time."""
    time: datetime = await connection.fetchval(_SQL["now"])
    return time


async def count_alive(connection: Connection) -> dict[int, Alive]:
    """Return for each tag key how many keys and sessions need it."""
    rows = await connection.fetch(_SQL["count_alive"], timeout=_COUNTING_TAKES)
    return {row["tag_key_id"]: Alive(row["keys"], row["sessions"]) for row in rows}


async def add(connection: Connection) -> int:
    """Add a new one, which does not mint yet; return its id."""
    tag_key_id: int = await connection.fetchval(_SQL["add_tag_key"], secrets.token_bytes(_LENGTH))
    return tag_key_id


async def start_minting(connection: Connection, tag_key_id: int) -> None:
    """Have this one mint, if it is new."""
    await connection.execute(_SQL["start_minting"], tag_key_id)


async def rest(database: Database, tag_key_id: int) -> None:
    """Note that all workers mint under this one, and none under those before it."""
    async with database.connection() as connection:
        await connection.execute(_SQL["rest"], tag_key_id)


async def retire(connection: Connection, tag_key_id: int) -> None:
    """Have nobody accept this one."""
    await connection.execute(_SQL["retire"], tag_key_id)
