"""The months of the audit log are created in advance and dropped as a whole, by one worker at a time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from authsvc.app.background import run_forever
from authsvc.audit.months import CHECK_INTERVAL, AuditMonths
from authsvc.store import purge as jobs
from authsvc.store.pool import Database
from tests.conftest import Clock, Ticker
from tests.store.test_audit import chain, event, faults, partitions, record

RETENTION = timedelta(days=400)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as opened:
        yield opened


@pytest.fixture
def job(database: Database, clock: Clock) -> AuditMonths:
    return AuditMonths(database, retention=RETENTION, clock=clock)


async def test_months_are_made_ahead(database: Database, job: AuditMonths, clock: Clock) -> None:
    """This month and the next three, across years. Events of the default partition are moved."""
    clock.now = datetime(2025, 11, 30, 23, 59, tzinfo=UTC)
    await record(database, event(at=clock.now), event(at=datetime(2026, 2, 1, tzinfo=UTC)))
    assert await job.step()
    found = await partitions(database)
    assert {"202511", "202512", "202601", "202602"} <= set(found)
    assert (found["202511"], found["202602"], found["default"]) == (1, 1, 0)
    assert await faults(database) == []


async def test_it_is_due_four_times_a_day(database: Database, job: AuditMonths, clock: Clock) -> None:
    """It is done once, whichever worker checks."""
    assert await job.step()
    assert not await job.step()
    clock.advance(seconds=CHECK_INTERVAL.total_seconds() - 1)
    assert not await job.step()
    clock.advance(seconds=1)
    assert await job.step()


async def test_one_worker_at_a_time(database: Database, job: AuditMonths, clock: Clock) -> None:
    """No other worker waits for the one that does it."""
    async with database.transaction() as connection:
        assert await jobs.take(connection, "audit", clock.now) is not None
        assert not await job.step()
    assert await job.step()


async def test_what_is_past_the_retention_is_dropped(
    database: Database, job: AuditMonths, clock: Clock
) -> None:
    """A month is dropped when all of it is past the retention; the chain continues after it."""
    months = [datetime(2025, month, 28, tzinfo=UTC) for month in (8, 9, 10, 11)]
    for moment in months:
        await record(database, event(at=moment))
    clock.now = datetime(2026, 11, 4, tzinfo=UTC)  # 400 days after 30 September
    assert await job.step()
    assert [e.event.event_time for e in await chain(database)] == months[1:]
    clock.advance(days=1)  # and after 1 October
    assert await job.step()
    assert [e.event.event_time for e in await chain(database)] == months[2:]
    assert job.dropped == 2
    assert await faults(database) == []


async def test_what_takes_long_holds_up_nobody(database: Database, job: AuditMonths, clock: Clock) -> None:
    """During a drop, events are listed and recorded, also those of the platform."""
    clock.now = datetime(2025, 1, 1, tzinfo=UTC)
    await record(database, event(at=clock.now))
    clock.now = datetime(2026, 11, 4, tzinfo=UTC)
    async with database.transaction() as noting:
        # A transaction that records what was dropped waits for this.
        await noting.execute("LOCK TABLE authsvc.audit_drops IN SHARE MODE")
        stepping = asyncio.create_task(job.step())
        waits = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'authsvc.audit_drops'::regclass"
        )
        while not await noting.fetchval(waits):
            assert not stepping.done()
        await record(database, event(at=clock.now), event(owner_id="authsvc", at=clock.now))
        assert len(await chain(database)) == 2
    assert await stepping
    assert len(await chain(database)) == 1
    assert await faults(database) == []


async def test_zero_keeps_all(database: Database, clock: Clock) -> None:
    """A retention of zero keeps events forever."""
    await record(database, event(at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert await AuditMonths(database, retention=timedelta(0), clock=clock).step()
    assert len(await chain(database)) == 1


async def test_a_step_that_cannot_be_done_is_tried_again(
    database: Database, job: AuditMonths, clock: Clock
) -> None:
    """It is tried again at the next tick; a failed step changes nothing."""
    ticker, looked = Ticker(), asyncio.Semaphore(0)

    async def tick() -> None:
        looked.release()
        await ticker()

    clock.now = datetime(2024, 2, 3, tzinfo=UTC)
    async with database.transaction() as reader:
        await reader.execute("SELECT count(*) FROM authsvc.audit_events_default")
        running = asyncio.create_task(run_forever(job.step, tick, "the months"))
        await looked.acquire()
        ticker.tick()
        async with asyncio.timeout(20):
            await looked.acquire()
    assert "202402" not in await partitions(database)
    ticker.tick()
    async with asyncio.timeout(20):
        await looked.acquire()
    assert "202402" in await partitions(database)
    running.cancel()


@pytest.mark.parametrize(
    ("kept", "told"),
    [("3650 days", "are kept for 3650 days"), ("0", "are kept forever")],
)
async def test_the_schema_may_keep_them_for_longer(
    database: Database, job: AuditMonths, clock: Clock, caplog: pytest.LogCaptureFixture, kept: str, told: str
) -> None:
    """If the retention of the schema is longer, nothing is dropped, and the log says what to do."""
    await record(database, event(at=datetime(2025, 8, 28, tzinfo=UTC)))
    clock.now = datetime(2026, 11, 4, tzinfo=UTC)
    async with database.connection() as connection:
        await connection.execute(
            f"INSERT INTO authsvc.audit_retention VALUES ('{kept}')"  # noqa: S608 - a constant
        )
    assert await job.step()
    assert len(await chain(database)) == 1
    assert told in caplog.text
    assert "run `authsvc migrate`" in caplog.text
    # A longer retention of the service itself is applied by the service.
    caplog.clear()
    clock.advance(days=1)
    assert await AuditMonths(database, retention=timedelta(0), clock=clock).step()
    assert (len(await chain(database)), caplog.text) == (1, "")
