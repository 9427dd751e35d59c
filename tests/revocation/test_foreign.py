"""Registrations that came with a copy of the database: a restored backup holds up no change."""

import asyncio
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from authsvc.store.feed import FeedConnection
from tests.conftest import serving

LEASE = timedelta(seconds=30)
ELSEWHERE = "1234567890/5"


async def register(database_url: str, age: timedelta, database_id: str | None = "here") -> UUID:
    """Insert a registration whose last renewal was so long ago; return its id."""
    worker_id = uuid4()
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid, beat_time) "
            "VALUES ($1, 30000, 'nowhere', 1, clock_timestamp() - $2::interval)",
            worker_id,
            age,
        )
        if database_id != "here":
            await connection.execute(
                "UPDATE authsvc.workers SET database_id = $2 WHERE worker_id = $1", worker_id, database_id
            )
    finally:
        await connection.close()
    return worker_id


async def registered(database_url: str) -> set[UUID]:
    connection = await asyncpg.connect(database_url)
    try:
        return {row["worker_id"] for row in await connection.fetch("SELECT worker_id FROM authsvc.workers")}
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("database_id", "age", "stays"),
    [
        (ELSEWHERE, timedelta(hours=1), False),
        (ELSEWHERE, timedelta(seconds=97), False),
        # Its lease may not be over, by the clock of another server.
        (ELSEWHERE, timedelta(seconds=90), True),
        # Only the reaper decides about these, by its own stopwatch.
        ("here", timedelta(days=365), True),
        (None, timedelta(days=365), True),
    ],
)
async def test_which_registrations_go(
    database_url: str, database_id: str | None, age: timedelta, stays: bool
) -> None:
    """Those of another database, when their leases are certainly over."""
    other = await register(database_url, age, database_id)
    feed, mine = FeedConnection(database_url, lease=30, listen=False), uuid4()
    await feed.register(mine, 30)
    assert await registered(database_url) == ({mine, other} if stays else {mine})
    await feed.leave(mine)


async def test_a_copy_of_the_database_holds_up_nobody(database_url: str) -> None:
    """The copy has the workers of the original, which go on there. The first revocation does not wait."""
    original, name = urlsplit(database_url), f"copy_{uuid4().hex}"
    await register(database_url, timedelta(hours=1))
    maintenance = await asyncpg.connect(urlunsplit(original._replace(path="/postgres")))
    try:
        await maintenance.execute(f"CREATE DATABASE {name} TEMPLATE {original.path.removeprefix('/')}")
        url = urlunsplit(original._replace(path=f"/{name}"))
        assert len(await registered(url)) == 1
        async with serving(url, None, lease=3600) as service:
            made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
            async with asyncio.timeout(60):
                await service.admin.RevokeKey(key_id=made.key.key_id)
        await maintenance.execute(f"DROP DATABASE {name}")
    finally:
        await maintenance.close()
    assert len(await registered(database_url)) == 1


async def test_a_worker_whose_database_was_replaced_starts_anew(database_url: str) -> None:
    """Its registration says another database, although its beat and its place are there."""
    async with serving(database_url, None, lease=5) as service:
        before = service.app.follower.worker_id
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("UPDATE authsvc.workers SET database_id = $1", ELSEWHERE)
        finally:
            await connection.close()
        async with asyncio.timeout(30):
            while service.app.holder.starts < 2:
                await service.app.holder._advanced.wait()
            await service.app.lease.taken()
        assert service.app.follower.worker_id != before
