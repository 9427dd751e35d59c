"""How the registrations of dead workers are removed."""

from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID, uuid4

import pytest_asyncio

from authsvc.revocation.reaper import Reaper
from authsvc.store import feed as feed_store
from authsvc.store.pool import Database
from authsvc.store.publication import NewEntry, publication
from authsvc.verify.lease import certainly_over
from tests.conftest import serving

LEASE = 30.0


class Watch:
    """A stopwatch that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as database:
        yield database


async def register(database: Database) -> UUID:
    """Register a worker; return its id."""
    worker_id = uuid4()
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid) VALUES ($1, $2, 'nowhere', 1)",
            worker_id,
            int(LEASE * 1000),
        )
    return worker_id


async def beat(database: Database, worker_id: UUID) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE authsvc.workers SET beat = gen_random_uuid() WHERE worker_id = $1", worker_id
        )


async def registered(database: Database) -> set[UUID]:
    workers, _, _ = await feed_store.find_workers(database)
    return {worker.worker_id for worker in workers}


async def test_a_worker_without_a_beat_for_longer_than_its_lease_goes(database: Database) -> None:  # R8
    """Not before its lease is certainly over by the reaper's clock; workers that renew stay."""
    watch = Watch()
    reaper = Reaper(database, stopwatch=watch)
    dead, alive = await register(database), await register(database)
    await reaper.look()
    watch.seconds = certainly_over(LEASE) - 0.01
    await beat(database, alive)
    await reaper.look()
    assert await registered(database) == {dead, alive}
    watch.seconds += 0.01
    await reaper.look()
    assert await registered(database) == {alive}


async def test_a_renewal_just_before_the_end_counts(database: Database) -> None:  # R8
    """One that renewed after it was checked is kept, however late."""
    watch = Watch()
    reaper = Reaper(database, stopwatch=watch)
    slow = await register(database)
    await reaper.look()
    watch.seconds = 3600.0
    [seen], _, _ = await feed_store.find_workers(database)
    await beat(database, slow)
    assert not await feed_store.reap(database, seen)
    await reaper.look()
    assert await registered(database) == {slow}


async def test_who_comes_late_does_not_count_what_it_did_not_see(database: Database) -> None:
    """A reaper that has just started waits a whole lease, whenever the last beat was."""
    watch = Watch()
    await register(database)
    watch.seconds = 10_000.0
    reaper = Reaper(database, stopwatch=watch)
    await reaper.look()
    watch.seconds += LEASE
    await reaper.look()
    assert len(await registered(database)) == 1


async def test_it_sees_how_far_the_last_one_is_behind(database: Database) -> None:
    """Since when a registration has had a change to apply; nothing when all have applied everything."""
    reaper = Reaper(database)
    worker = await register(database)
    async with database.connection() as connection:
        await connection.execute("UPDATE authsvc.workers SET register_time = now() - interval '1 hour'")
    async with database.transaction(
        last=partial(publication, NewEntry(key_prefixes=["eg_live_000000000000"]))
    ):
        pass
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE authsvc.feed SET publish_time = now() - interval '1 minute' WHERE seq = 1"
        )
        await connection.execute("UPDATE authsvc.workers SET applied = 0")
    await reaper.look()
    assert 60 <= reaper.lag < 3600
    async with database.connection() as connection:
        await connection.execute("UPDATE authsvc.workers SET applied = 1 WHERE worker_id = $1", worker)
    await reaper.look()
    assert (reaper.registered, reaper.lag) == (1, 0.0)


async def test_a_worker_reaped_in_error_comes_back(database_url: str, database: Database) -> None:
    """It notices this at its next renewal, drops its memory, and registers again."""
    async with serving(database_url, None, lease=5) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        await service.admin.VerifyKey(key_string=made.key_string)
        first = service.app.follower.worker_id
        [seen], _, _ = await feed_store.find_workers(database)
        while not await feed_store.reap(database, seen):
            [seen], _, _ = await feed_store.find_workers(database)
        while service.app.follower.registrations < 2:
            await service.app.holder._advanced.wait()
        assert service.app.follower.worker_id != first
        await service.app.lease.taken()
        assert (await service.admin.VerifyKey(key_string=made.key_string)).valid


async def test_the_feed_is_trimmed_behind_all(database: Database) -> None:
    """Entries over an hour old that all have applied are deleted; those that one lacks and the last stay."""
    async with database.connection() as connection:
        await connection.execute("UPDATE authsvc.feed SET publish_time = now() - interval '2 hours'")
    for _ in range(5):
        entry = NewEntry(key_prefixes=["eg_live_000000000000"])
        async with database.transaction(last=partial(publication, entry)):
            pass
    worker = await register(database)

    async def kept(applied: int, old: int) -> list[int]:
        async with database.connection() as connection:
            await connection.execute(
                "UPDATE authsvc.workers SET applied = $2 WHERE worker_id = $1", worker, applied
            )
            await connection.execute(
                "UPDATE authsvc.feed SET publish_time = now() - interval '2 hours' WHERE seq <= $1", old
            )
        await feed_store.trim(database)
        async with database.connection() as connection:
            return [row[0] for row in await connection.fetch("SELECT seq FROM authsvc.feed ORDER BY seq")]

    assert await kept(-1, 0) == [0, 1, 2, 3, 4, 5]
    assert await kept(3, 0) == [1, 2, 3, 4, 5]
    assert await kept(3, 5) == [3, 4, 5]
    assert await kept(5, 5) == [5]
