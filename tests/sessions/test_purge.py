"""What the purge deletes, and in which steps."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from authsvc.app.background import run_forever
from authsvc.model.activity import SHORTEST_TIMEOUT
from authsvc.sessions import purge
from authsvc.sessions.purge import SCAN_INTERVAL, Purge
from authsvc.store import purge as purge_store
from authsvc.store.pool import Database
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service, serving

RETENTION = timedelta(days=30)
TICK = timedelta(microseconds=1)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as database:
        yield database


@pytest.fixture
def job(database: Database, clock: Clock) -> Purge:
    """The purge of another worker."""
    return Purge(database, retention=RETENTION, usage_retention=RETENTION, clock=clock)


async def sign_in(service: Service, owner_id: str = "alice", **lengths: timedelta) -> Any:
    """Create a session."""
    wishes = {name: Duration() for name in lengths}
    for name, length in lengths.items():
        wishes[name].FromTimedelta(length)
    return await service.admin.CreateSession(owner_id=owner_id, **wishes)


async def kept(database: Database) -> set[str]:
    """Return the ids of all sessions."""
    async with database.connection() as connection:
        return {row[0] for row in await connection.fetch("SELECT session_id FROM authsvc.sessions")}


async def ends(database: Database, owner_id: str = "alice") -> list[int]:
    """Return the ended epochs of an owner that are still stored."""
    async with database.connection() as connection:
        found = await connection.fetch(
            "SELECT epoch FROM authsvc.session_ends WHERE owner_id = $1 ORDER BY epoch", owner_id
        )
    return [row[0] for row in found]


async def walk(job: Purge) -> int:
    """Scan all sessions once; return the number of batches."""
    steps = 1
    while await job.step():
        steps += 1
    return steps


async def code_of(service: Service, made: Any) -> str:
    """Return the verdict on a session's token, read from the database."""
    service.app.cache.clear()
    verdict = await service.admin.VerifySession(session_token=made.session_token)
    return resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")


async def end_by_revocation(service: Service, clock: Clock) -> Any:
    made = await sign_in(service, idle_timeout=timedelta(days=7))
    await service.admin.RevokeSession(session_id=made.session.session_id)
    return made


async def end_with_all(service: Service, clock: Clock) -> Any:
    made = await sign_in(service, idle_timeout=timedelta(days=7))
    await service.admin.RevokeAllSessions(owner_id="alice")
    return made


async def end_by_age(service: Service, clock: Clock) -> Any:
    made = await sign_in(service, lifetime=timedelta(hours=1))
    clock.advance(hours=1)
    return made


async def end_by_idleness(service: Service, clock: Clock) -> Any:
    """Its activity counts: it ends an hour after the last one."""
    made = await sign_in(service, idle_timeout=timedelta(hours=1), lifetime=timedelta(days=20))
    clock.advance(minutes=30)
    await service.admin.VerifySession(session_token=made.session_token)
    await service.flush()
    clock.advance(hours=1)
    return made


@pytest.mark.parametrize("end", [end_by_revocation, end_with_all, end_by_age, end_by_idleness])
async def test_what_ended_a_retention_time_ago_goes(
    service: Service, database: Database, job: Purge, clock: Clock, end: Any
) -> None:
    """An ended session is kept for the retention time, then deleted: its token is NOT_FOUND."""
    alive = await sign_in(service, "bob", idle_timeout=RETENTION, lifetime=timedelta(days=300))
    ended = await end(service, clock)
    state = await code_of(service, ended)
    assert state in ("REVOKED", "EXPIRED")
    clock.now += RETENTION - timedelta(hours=2)
    assert await code_of(service, alive) == "VALID"
    await service.flush()
    clock.now += timedelta(hours=2)
    await walk(job)
    assert await kept(database) == {ended.session.session_id, alive.session.session_id}
    assert await code_of(service, ended) == state
    clock.now += SCAN_INTERVAL
    await walk(job)
    assert await kept(database) == {alive.session.session_id}
    assert await code_of(service, ended) == "NOT_FOUND"
    assert await code_of(service, alive) == "VALID"
    assert job.deleted == 1


async def test_to_the_instant(service: Service, database: Database, job: Purge, clock: Clock) -> None:
    """At the end of its retention time a session still exists; a microsecond later it is deleted."""
    made = await end_by_revocation(service, clock)
    clock.now += RETENTION
    assert not await job.step()
    assert await kept(database) == {made.session.session_id}
    async with database.transaction() as connection:
        await purge_store.put_back(connection, "purge", "", clock.now)
    clock.now += TICK
    assert not await job.step()
    assert await kept(database) == set()


async def test_a_revocation_after_the_expiry_does_not_keep_a_session(
    service: Service, database: Database, job: Purge, clock: Clock
) -> None:
    """The first end counts: for a session that expired before it was revoked, this is its expiry."""
    made = await sign_in(service, idle_timeout=SHORTEST_TIMEOUT)
    clock.now += RETENTION
    await service.admin.RevokeSession(session_id=made.session.session_id)
    clock.now += SHORTEST_TIMEOUT + TICK
    await walk(job)
    assert await kept(database) == set()


async def open_many(service: Service, clock: Clock, count: int, *, excluding: int) -> list[str]:
    """Create sessions, all of which except one ended long ago; return their ids."""
    ids = []
    for number in range(count):
        made = await sign_in(service, idle_timeout=RETENTION if number == excluding else SHORTEST_TIMEOUT)
        ids.append(made.session.session_id)
        clock.advance(seconds=1)
    clock.now += RETENTION + SHORTEST_TIMEOUT
    assert ids == sorted(ids)
    return ids


async def test_in_small_batches(
    service: Service, database: Database, job: Purge, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step reads at most one batch, in the order of ids; the last one returns False."""
    monkeypatch.setattr(purge, "BATCH_ROWS", 2)
    ids = await open_many(service, clock, 5, excluding=1)
    for deleted, left, more in [(1, ids[1:], True), (3, [ids[1], ids[4]], True), (4, [ids[1]], False)]:
        assert await job.step() is more
        assert await kept(database) == set(left)
        assert job.deleted == deleted


async def test_a_full_last_batch_is_not_the_last(
    service: Service, database: Database, job: Purge, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the sessions fill the batches exactly, an empty batch ends the scan."""
    monkeypatch.setattr(purge, "BATCH_ROWS", 2)
    await open_many(service, clock, 4, excluding=0)
    assert await walk(job) == 3
    assert len(await kept(database)) == 1
    clock.now += SCAN_INTERVAL
    assert await walk(job) == 1


async def test_an_hour_after_its_end_it_begins_anew(
    service: Service, database: Database, job: Purge, clock: Clock
) -> None:
    """Between two scans no worker has anything to do, also if sessions have ended."""
    assert await walk(job) == 1
    [session_id] = await open_many(service, clock, 1, excluding=-1)
    async with database.transaction() as connection:
        await purge_store.put_back(connection, "purge", "", clock.now + SCAN_INTERVAL)
    clock.now += SCAN_INTERVAL - TICK
    for worker in (job, service.app.purge):
        assert not await worker.step()
    assert await kept(database) == {session_id}
    clock.now += TICK
    assert not await job.step()
    assert await kept(database) == set()


async def test_one_worker_at_a_time(
    service: Service, database: Database, job: Purge, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a worker deletes a batch, the others have nothing to do; any of them does the next one."""
    monkeypatch.setattr(purge, "BATCH_ROWS", 2)
    ids = await open_many(service, clock, 4, excluding=-1)
    async with database.transaction() as connection:
        assert await purge_store.take(connection, "purge", clock.now) == ""
        assert not await job.step()
        assert await kept(database) == set(ids)
    assert await job.step()
    assert await service.app.purge.step()
    assert await kept(database) == set()
    assert (job.deleted, service.app.purge.deleted) == (2, 2)


async def test_many_workers_at_once(
    service: Service, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many workers at the same time, each session is deleted once."""
    monkeypatch.setattr(purge, "BATCH_ROWS", 2)
    await open_many(service, clock, 20, excluding=-1)
    jobs = [Purge(database, retention=RETENTION, usage_retention=RETENTION, clock=clock) for _ in range(5)]
    while await kept(database):
        await asyncio.gather(*(job.step() for job in jobs))
    assert sum(job.deleted for job in jobs) == 20


async def test_after_a_failure_it_goes_on_where_it_was(
    service: Service, database: Database, job: Purge, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that fails is rolled back, and done again by the next worker."""
    monkeypatch.setattr(purge, "BATCH_ROWS", 2)
    ids = await open_many(service, clock, 5, excluding=-1)
    assert await job.step()
    with monkeypatch.context() as patch:

        async def fail(*_: object) -> None:
            raise ZeroDivisionError("a fault")

        patch.setattr(purge_store, "put_back", fail)
        with pytest.raises(ZeroDivisionError):
            await job.step()
    assert await kept(database) == set(ids[2:])
    assert job.deleted == 2
    # If it had started over, it would check this one first.
    late = await sign_in(service)
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE authsvc.sessions SET session_id = 'ses_' WHERE session_id = $1", ids[4]
        )
    assert await service.app.purge.step()
    assert not await service.app.purge.step()
    assert await kept(database) == {"ses_", late.session.session_id}


class Rhythm:
    """Ticks and pauses, one at a time: the test sees what is awaited, and lets it continue."""

    def __init__(self) -> None:
        self._awaited: asyncio.Queue[str] = asyncio.Queue()
        self._go = asyncio.Semaphore(0)

    async def tick(self) -> None:
        await self._wait("tick")

    async def pause(self) -> None:
        await self._wait("pause")

    async def _wait(self, what: str) -> None:
        self._awaited.put_nowait(what)
        await self._go.acquire()

    async def awaited(self) -> str:
        return await self._awaited.get()

    def go(self) -> None:
        self._go.release()


async def test_run_outlives_faults(
    service: Service,
    database: Database,
    job: Purge,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After each tick it does what is due, with a pause after each batch; faults are logged."""
    monkeypatch.setattr(purge, "BATCH_ROWS", 2)
    await open_many(service, clock, 3, excluding=-1)
    rhythm = Rhythm()
    task = asyncio.create_task(run_forever(partial(job.work, rhythm.pause), rhythm.tick, "purging"))
    assert await rhythm.awaited() == "tick"
    assert job.deleted == 0
    with monkeypatch.context() as patch:

        async def fail(*_: object) -> None:
            raise ZeroDivisionError("a fault")

        patch.setattr(purge_store, "take", fail)
        rhythm.go()
        assert await rhythm.awaited() == "tick"
    assert "ZeroDivisionError: a fault" in caplog.text
    for awaited, deleted in [("pause", 2), ("tick", 3), ("tick", 3)]:
        rhythm.go()
        assert await rhythm.awaited() == awaited
        assert job.deleted == deleted
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_last_end_of_an_owner_stays(
    service: Service, database: Database, job: Purge, clock: Clock
) -> None:  # rules 16, 26
    """Rows that ended sessions are deleted with them, except the newest, from which epochs are counted."""
    for _ in range(3):
        await sign_in(service)
        await service.admin.RevokeAllSessions(owner_id="alice")
    # Nothing is kept for an owner without a session.
    await service.admin.RevokeAllSessions(owner_id="bob")
    clock.now += RETENTION
    await walk(job)
    assert await ends(database) == [1, 2, 3]
    clock.now += SCAN_INTERVAL
    await walk(job)
    assert await kept(database) == set()
    assert (await ends(database), await ends(database, "bob")) == ([3], [])
    made = await sign_in(service)
    assert await code_of(service, made) == "VALID"
    await service.admin.RevokeAllSessions(owner_id="alice")
    assert await ends(database) == [3, 4]
    assert await code_of(service, made) == "REVOKED"


async def test_a_purge_revives_nobody(
    service: Service, database: Database, job: Purge, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:  # rules 16, 26
    """A row that ended an existing session is kept; a session that was excepted stays active."""
    monkeypatch.setattr(purge, "BATCH_ROWS", 1)
    made = []
    for _ in range(3):
        made.append(await sign_in(service, idle_timeout=RETENTION, lifetime=2 * RETENTION))
        clock.advance(seconds=1)
    excepted = made[2].session.session_id
    for _ in range(2):
        await service.admin.RevokeAllSessions(owner_id="alice", except_session_id=excepted)
    clock.now += RETENTION / 2
    assert await code_of(service, made[2]) == "VALID"
    await service.flush()
    clock.now += RETENTION / 2 + TICK
    codes = ["REVOKED", "REVOKED", "VALID"]
    for number, epochs in [(0, [1, 2]), (1, [2]), (2, [2])]:
        await job.step()
        codes[number] = "VALID" if number == 2 else "NOT_FOUND"
        assert await ends(database) == epochs
        assert [await code_of(service, session) for session in made] == codes


async def test_a_service_keeps_ended_sessions_as_long_as_it_is_told(database_url: str, clock: Clock) -> None:
    """The retention time is a setting."""
    async with serving(database_url, clock, session_retention=timedelta(days=1)) as service:
        made = await end_by_revocation(service, clock)
        clock.now += timedelta(days=1) + TICK
        assert not await service.app.purge.step()
        assert service.app.purge.deleted == 1
        assert await code_of(service, made) == "NOT_FOUND"
