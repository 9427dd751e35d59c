"""Tag keys in the database."""

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
_TAG_KEY_BYTES = 32
# To count, every key and session is read.
_MAX_COUNT_SECONDS = 600.0


class Alive(NamedTuple):
    """The number of active keys and sessions whose strings were minted with a tag key."""

    keys: int
    sessions: int


async def accepted(database: Database) -> AcceptedTagKeys:
    """Return the tag keys that workers accept. Raises MigrationError if there is none."""
    async with database.connection() as connection:
        found = await connection.fetchval(_SQL["find_accepted"])
    if found is None:
        raise MigrationError(
            "the table authsvc.tag_keys has no accepted tag key, although `authsvc migrate` created one; no "
            "key can be verified without it: restore the table from a backup"
        )
    return AcceptedTagKeys(tuple(found))


async def lock(connection: Connection) -> list[TagKey]:
    """Return all tag keys, and lock them against changes until this transaction ends.

    Raises PermissionDenied for a database role that may not change them.
    """
    try:
        await connection.execute(_SQL["lock_tag_keys"])
    except asyncpg.InsufficientPrivilegeError as error:
        raise PermissionDenied(
            "the serving role may not change tag keys: set AUTHSVC_MIGRATION_DATABASE_URL to the owner's",
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
    """Return the time of the database."""
    time: datetime = await connection.fetchval(_SQL["now"])
    return time


async def count_alive(connection: Connection) -> dict[int, Alive]:
    """Return how many keys and sessions need each tag key, by its id."""
    rows = await connection.fetch(_SQL["count_alive"], timeout=_MAX_COUNT_SECONDS)
    return {row["tag_key_id"]: Alive(row["keys"], row["sessions"]) for row in rows}


async def add(connection: Connection) -> int:
    """Add a new tag key, which does not mint yet; return its id."""
    tag_key_id: int = await connection.fetchval(_SQL["add_tag_key"], secrets.token_bytes(_TAG_KEY_BYTES))
    return tag_key_id


async def start_minting(connection: Connection, tag_key_id: int) -> None:
    """Make a tag key the one that mints, if it is new."""
    await connection.execute(_SQL["start_minting"], tag_key_id)


async def rest(database: Database, tag_key_id: int) -> None:
    """Record that all workers mint with this tag key, and none with an earlier one."""
    async with database.connection() as connection:
        await connection.execute(_SQL["rest"], tag_key_id)


async def retire(connection: Connection, tag_key_id: int) -> None:
    """Retire a tag key, which is not accepted from then on."""
    await connection.execute(_SQL["retire"], tag_key_id)
