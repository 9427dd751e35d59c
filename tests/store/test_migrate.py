"""Migrations."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from authsvc.store.migrate import Migration, MigrationError, known_migrations, migrate, pending
from authsvc.store.pool import Database
from tests.conftest import Clock, serving

GOOD = Migration(9001, "good", "CREATE TABLE authsvc.good (n integer)")
BAD = Migration(9002, "bad", "CREATE TABLE authsvc.half (n integer); SELECT 1/0")


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'authsvc'")
        return {row["tablename"] for row in rows}
    finally:
        await connection.close()


def test_no_number_is_taken_twice() -> None:
    """Migrations are numbered from 1, each number once."""
    numbers = [migration.number for migration in known_migrations()]
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))


async def test_an_empty_database(empty_database_url: str) -> None:
    """All migrations run once; the second time there is nothing to do."""
    told: list[str] = []
    assert await migrate(empty_database_url, tell=told.append) == len(known_migrations())
    assert told[0] == "applied 0001 keys"
    assert await migrate(empty_database_url) == 0
    assert "keys" in await tables(empty_database_url)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_many_at_once(empty_database_url: str, isolation: str) -> None:
    """Replicas that start at the same time wait for each other; each migration runs once.

    Whatever the default of the database is, each sees what the others have applied.
    """
    connection = await asyncpg.connect(empty_database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    await connection.close()
    done = await asyncio.gather(*(migrate(empty_database_url) for _ in range(8)))
    assert sum(done) == len(known_migrations())


async def test_a_migration_that_fails_leaves_no_trace(database_url: str) -> None:
    """Earlier ones stay, the failed one is named, and it can be tried again."""
    with pytest.raises(MigrationError, match="9002 bad failed and was rolled back: division by zero"):
        await migrate(database_url, migrations=[*known_migrations(), GOOD, BAD])
    assert {"good"} == await tables(database_url) & {"good", "half"}
    mended = Migration(9002, "bad", "CREATE TABLE authsvc.half (n integer)")
    assert await migrate(database_url, migrations=[*known_migrations(), GOOD, mended]) == 1


async def test_a_changed_migration_is_refused(database_url: str) -> None:
    """A file that was edited after it had been applied is named, before anything runs."""
    await migrate(database_url, migrations=[GOOD])
    changed = Migration(9001, "good", GOOD.sql + " -- edited")
    with pytest.raises(MigrationError, match="9001 good was changed after it had been applied"):
        await migrate(database_url, migrations=[changed])


async def test_what_is_pending(empty_database_url: str, database_url: str) -> None:
    """A new database lacks all migrations, a migrated one none."""
    async with Database.open(empty_database_url) as database:
        assert await pending(database) == [f"{m.number:04} {m.name}" for m in known_migrations()]
    async with Database.open(database_url) as database:
        assert await pending(database) == []


async def test_the_role_that_serves_cannot_change_the_schema(
    plain_role: str, empty_database_url: str, clock: Clock
) -> None:
    """With two roles the whole life of a key works, and no table can be created, altered or dropped."""
    await migrate(empty_database_url, serving_role=plain_role)
    place = urlsplit(empty_database_url)
    serving_url = f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"
    async with serving(serving_url, clock) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="x")
        assert (await service.admin.VerifyKey(key_string=made.key_string)).valid
        await service.flush()
        await service.admin.RotateKey(key_id=made.key.key_id)
        await service.admin.ListKeys(owner_id="acme", filter={"query": "xyz"})
        await service.admin.DeleteKey(key_id=made.key.key_id)
        await service.notifier.spread.work()
        await service.notifier.backlog.look()
        assert service.notifier.backlog.pending["notification"] == 0
    connection = await asyncpg.connect(serving_url)
    try:
        for statement in (
            "CREATE TABLE authsvc.mine (n integer)",
            "ALTER TABLE authsvc.keys ADD COLUMN mine integer",
            "DROP TABLE authsvc.keys",
            "TRUNCATE authsvc.keys",
            "DROP FUNCTION authsvc.trigrams(text) CASCADE",
            "UPDATE authsvc.migrations SET checksum = ''",
            "UPDATE authsvc.tag_keys SET tag_key = ''",
            "DELETE FROM authsvc.tag_keys",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
