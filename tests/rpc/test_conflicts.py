"""Conflicts in the database are told as what they are: nobody is to search for a fault of the network."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest

from tests.conftest import Service, eventually, serving
from tests.rpc.refusal import refused

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
# Changes of a table wait for lock 7, and then for lock 8.
WAIT = """
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql {settings} AS
        'BEGIN PERFORM pg_advisory_xact_lock(7); PERFORM pg_advisory_xact_lock(8); RETURN NEW; END';
    CREATE TRIGGER wait BEFORE UPDATE ON authsvc.{table} FOR EACH ROW EXECUTE FUNCTION wait()
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
AWAY = "reach"  # "out of reach", "cannot reach", "unreachable": an outage


@asynccontextmanager
async def held(url: str, table: str, settings: str, lock: int) -> AsyncIterator[Any]:
    """Have changes of a table wait for a lock that this session holds while the block runs."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(WAIT.format(table=table, settings=settings))
        async with connection.transaction():
            await connection.execute("SET LOCAL deadlock_timeout = '10s'")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", lock)
            yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("table", ["keys", "feed_head"])
async def test_a_lock_that_is_held_for_long(service: Service, database_url: str, table: str) -> None:
    """By the reason LOCK_TIMEOUT; afterwards the call is carried out."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with held(database_url, table, "SET lock_timeout = '50ms'", 7):
        with refused(UNAVAILABLE, "LOCK_TIMEOUT") as refusal:
            await service.admin.RevokeKey(key_id=made.key.key_id)
    assert AWAY not in refusal.message
    assert refusal.retry_seconds is not None
    await service.admin.RevokeKey(key_id=made.key.key_id)


@pytest.mark.parametrize("table", ["keys", "feed_head"])
async def test_two_changes_that_wait_for_each_other(service: Service, database_url: str, table: str) -> None:
    """By the reason TRANSACTION_CONFLICT; afterwards the call is carried out."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with held(database_url, table, "SET deadlock_timeout = '50ms'", 8) as other:
        revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=made.key.key_id))
        await eventually(lambda: other.fetchval(WAITING, 8), bool)
        await other.execute("SELECT pg_advisory_xact_lock(7)")
        with refused(UNAVAILABLE, "TRANSACTION_CONFLICT") as refusal:
            await revoking
    assert AWAY not in refusal.message
    assert refusal.retry_seconds is not None
    await service.admin.RevokeKey(key_id=made.key.key_id)


async def test_a_database_whose_default_is_another_isolation(database_url: str) -> None:
    """Changes at the same time do not conflict, since their transactions say what they need."""
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    await connection.close()
    async with serving(database_url, None) as service:
        made = [await service.admin.CreateKey(owner_id="acme", display_name="Orders") for _ in range(20)]
        await asyncio.gather(*(service.admin.RevokeKey(key_id=each.key.key_id) for each in made))


async def test_a_worker_that_waits_for_a_lock(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its log and its refusals name the lock, and no outage; then it continues."""
    caplog.set_level(logging.INFO, "authsvc")

    async def told() -> str:
        await asyncio.sleep(0)
        return caplog.text

    async with serving(database_url, None, lease=1) as service:
        async with held(database_url, "workers", "SET lock_timeout = '50ms'", 7):
            await eventually(told, lambda text: "the feed cannot be followed; the lease is valid for" in text)
            assert "another change held a lock for too long" in caplog.text

            async def held_lease() -> float:
                await asyncio.sleep(0)
                return service.app.lease.left

            await eventually(held_lease, lambda left: left == 0)
            with refused(UNAVAILABLE, "LEASE_OVER") as refusal:
                await service.admin.VerifyKey(key_string=service.admin_key)
        await eventually(told, lambda text: "the feed is followed again" in text)
        assert (await service.admin.VerifyKey(key_string=service.admin_key)).valid
    assert AWAY not in refusal.message
    assert AWAY not in caplog.text


async def test_callers_that_cancel(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """At whatever moment that is, it is no error of the service, and nothing is left behind."""
    for number in range(120):
        call = asyncio.ensure_future(service.admin.CreateKey(owner_id="acme", display_name="Orders"))
        await asyncio.sleep(number % 40 * 0.0005)
        call.cancel()
        await asyncio.wait({call})
    slots = service.app.database.slots.kinds

    async def in_use() -> int:
        await asyncio.sleep(0)
        return sum(kind.in_use for kind in slots.values())

    await eventually(in_use, lambda count: count == 0)
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    assert (await service.admin.VerifyKey(key_string=made.key_string)).valid
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
