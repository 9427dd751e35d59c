"""Refused attempts are written in the background, bounded in a flood, and kept in an outage."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from authsvc.app.background import run_forever
from authsvc.audit.refusals import MAX_EVENTS_PER_CALLER, MAX_EVENTS_PER_FLUSH, MAX_EVENTS_PER_OWNER, Refusals
from authsvc.model.audit_event import Action, AuditEvent, ChainedEvent
from authsvc.model.caller import Caller
from authsvc.model.errors import (
    AlreadyDone,
    AuthsvcError,
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from authsvc.model.key_string import KeyMint
from authsvc.store import audit as audit_store
from authsvc.store.pool import Database
from tests.conftest import Clock, Ticker
from tests.store.test_audit import chain, faults

OWNERS = 8
EVE = Caller("key_eve", "evil", ())


def denied(owner_id: str = "acme") -> PermissionDenied:
    return PermissionDenied("no", reason="OWNER_NOT_PERMITTED", owner_id=owner_id)


def caller(number: int) -> Caller:
    return Caller(f"key_{number}", f"evil{number % OWNERS}", ())


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as opened:
        yield opened


@pytest.fixture
def log(database: Database, clock: Clock) -> Refusals:
    return Refusals(database, clock)


async def written(database: Database) -> dict[tuple[str, str], int]:
    """Return the number of refused attempts by caller and owner."""
    found: list[ChainedEvent] = await chain(database, "evil")
    for number in range(OWNERS):
        found += await chain(database, f"evil{number}")
    assert {e.event.action for e in found} <= {Action.REFUSED}
    return {(e.event.actor_id, e.event.target_id): int(e.event.details["count"]) for e in found}


async def test_a_flood_is_one_event(database: Database, log: Refusals, clock: Clock) -> None:
    """Any number of attempts is one event with the count, the last time and the last address."""
    for number in range(50_000):
        clock.advance(seconds=0.001)
        log.note(EVE._replace(client_ip=f"192.0.2.{number % 7}"), "ListKeys", denied())
    await log.flush()
    [found] = await chain(database, "evil")
    assert found.event.details == {"method": "ListKeys", "reason": "OWNER_NOT_PERMITTED", "count": "50000"}
    assert found.event.event_time == clock.now
    assert found.event.client_ip == "192.0.2.5"
    assert log.dropped == 0
    await log.flush()
    assert len(await chain(database, "evil")) == 1


async def test_one_caller_has_room_for_some(database: Database, log: Refusals) -> None:
    """A caller that asks for many owners is bounded, and hides no attempts of others."""
    for number in range(10_000):
        log.note(EVE, "ListKeys", denied(f"owner{number}"))
    log.note(caller(1), "ListKeys", denied())
    await log.flush()
    expected = {("key_eve", f"owner{n}"): 1 for n in range(MAX_EVENTS_PER_CALLER)}
    assert await written(database) == expected | {("key_1", "acme"): 1}
    assert log.dropped == 10_000 - MAX_EVENTS_PER_CALLER
    log.note(EVE, "ListKeys", denied("later"))
    await log.flush()
    assert ("key_eve", "later") in await written(database)


async def test_all_together_have_room_for_some(database: Database, log: Refusals) -> None:
    """A write has a bounded number of events for any number of callers; the chain is intact."""
    for number in range(10 * MAX_EVENTS_PER_FLUSH):
        log.note(caller(number), "ListKeys", denied())
    await log.flush()
    assert len(await written(database)) == MAX_EVENTS_PER_FLUSH
    assert log.dropped == 9 * MAX_EVENTS_PER_FLUSH
    assert await faults(database) == []


async def test_one_owner_has_room_for_some(database: Database, log: Refusals) -> None:
    """One that creates many sessions, to act as many callers, hides no attempts of other owners."""
    for number in range(10 * MAX_EVENTS_PER_FLUSH):
        log.note(EVE._replace(credential_id=f"ses_{number}"), "ListKeys", denied())
    log.note(EVE, "ListKeys", denied())
    log.note(caller(1), "ListKeys", denied())
    await log.flush()
    found = await written(database)
    assert len(found) == MAX_EVENTS_PER_OWNER + 1
    assert ("key_1", "acme") in found
    assert log.dropped == 10 * MAX_EVENTS_PER_FLUSH - MAX_EVENTS_PER_OWNER + 1


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument(),
        AlreadyDone("", reason="X"),
        Conflict("", reason="X"),
        Unavailable("", reason="X", retry_after=1),
    ],
)
async def test_what_is_no_refusal_is_let_pass(database: Database, log: Refusals, error: AuthsvcError) -> None:
    """Bad input, wrong states and outages are not refused attempts."""
    log.note(EVE, "GetKey", error)
    await log.flush()
    assert await written(database) == {}


async def test_a_caller_without_an_owner_is_let_pass(database: Database, log: Refusals) -> None:
    """There is no chain for a caller without an owner."""
    log.note(Caller("", "", ()), "GetKey", NotFound("", reason="KEY_NOT_FOUND"))
    await log.flush()
    assert await written(database) == {}


async def test_what_cannot_be_written_is_kept(
    database: Database, log: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts are kept and counted further, within the same bounds; the first ones have priority."""
    for number in range(MAX_EVENTS_PER_FLUSH - 1):
        log.note(caller(number), "ListKeys", denied())
    with monkeypatch.context() as broken:

        async def fail(*_: object) -> None:
            log.note(caller(0), "ListKeys", denied())
            log.note(caller(MAX_EVENTS_PER_FLUSH), "ListKeys", denied())
            log.note(caller(MAX_EVENTS_PER_FLUSH + 1), "ListKeys", denied())
            raise Unavailable("away", reason="DATABASE_UNAVAILABLE", retry_after=1)

        broken.setattr(audit_store, "record", fail)
        with pytest.raises(Unavailable):
            await log.flush()
    log.note(caller(1), "ListKeys", denied())
    await log.flush()
    found = await written(database)
    assert len(found) == MAX_EVENTS_PER_FLUSH
    assert (found["key_0", "acme"], found["key_1", "acme"], found["key_2", "acme"]) == (2, 2, 1)
    assert (f"key_{MAX_EVENTS_PER_FLUSH}", "acme") in found
    assert log.dropped == 1


async def test_no_secret_is_written(database: Database, log: Refusals) -> None:  # rule 1
    """Not even if the requested owner has the form of a key string."""
    text = KeyMint(bytes(32)).mint("eg", "live").text
    log.note(EVE, "ListKeys", denied(text))
    await log.flush()
    assert await written(database) == {("key_eve", text[:-51] + "…"): 1}


async def test_it_goes_on_after_any_fault(
    database: Database, log: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept is written at the next tick."""
    ticker, tried = Ticker(), asyncio.Event()
    log.note(EVE, "ListKeys", denied())
    with monkeypatch.context() as broken:

        async def fail(*_: object) -> None:
            tried.set()
            raise ValueError("a fault")

        broken.setattr(audit_store, "record", fail)
        running = asyncio.create_task(run_forever(log.flush, ticker, "writing"))
        ticker.tick()
        await tried.wait()
    ticker.tick()
    async with asyncio.timeout(10):
        while not await written(database):
            pass
    running.cancel()


async def test_nobody_waits_for_the_chain_of_another_owner(
    database: Database, database_url: str, log: Refusals, clock: Clock
) -> None:
    """If the chain of an owner is locked, its events are written later; those of others are written now."""
    async with database.transaction() as connection:
        await audit_store.record(
            connection, [AuditEvent.of(EVE, Action.REFUSED, at=clock(), target_id="", owner_id="evil")]
        )
    locker = await asyncpg.connect(database_url)
    try:
        async with locker.transaction():
            await locker.execute("SELECT FROM authsvc.audit_heads WHERE owner_id = 'evil' FOR UPDATE")
            log.note(EVE, "ListKeys", denied())
            log.note(caller(1), "ListKeys", denied())
            with pytest.raises(Unavailable):
                await log.flush()
            assert len(await chain(database, "evil1")) == 1
        assert len(await chain(database, "evil")) == 1
        await log.flush()
    finally:
        await locker.close()
    assert [len(await chain(database, owner_id)) for owner_id in ("evil", "evil1")] == [2, 1]
    assert await faults(database) == []


async def test_what_the_database_refuses_stops_nothing_else(
    database: Database, log: Refusals, caplog: pytest.LogCaptureFixture
) -> None:
    """The event is dropped and told; others of its owner and of other owners are written, each once."""
    async with database.connection() as connection:
        await connection.execute(
            "ALTER TABLE authsvc.audit_events ADD CONSTRAINT newer CHECK (target_id <> 'secret5') NOT VALID"
        )
    for number in range(MAX_EVENTS_PER_CALLER):
        log.note(EVE, "ListKeys", denied(f"secret{number}"))
    log.note(EVE._replace(owner_id="no owner", credential_id="key_odd"), "ListKeys", denied())
    log.note(caller(1), "ListKeys", denied())
    for _ in range(2):
        await log.flush()
        expected = {("key_eve", f"secret{n}"): 1 for n in range(MAX_EVENTS_PER_CALLER) if n != 5}
        assert await written(database) == expected | {("key_1", "acme"): 1}
    assert await faults(database) == []
    assert (log.refused, log.dropped) == (2, 0)
    told = [record.getMessage() for record in caplog.records]
    assert [line[: line.index(";")] for line in told] == [
        "an event of key_eve is dropped, because the database refuses it: "
        f"CheckViolationError (23514), constraint newer, table {told[0].split('table ')[1].split(';')[0]}",
        "an event of key_odd is dropped, because the database refuses it: InvalidParameterValueError (22023)",
    ]
    assert "secret5" not in caplog.text
