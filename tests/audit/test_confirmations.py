"""What changes were confirmed by, as a second event in the chains of their owners."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from authsvc.audit.confirmations import MAX_PENDING, Confirmations
from authsvc.model.audit_event import Action, AuditEvent, ChainedEvent
from authsvc.model.caller import Caller
from authsvc.model.confirmation import Confirmation
from authsvc.model.errors import Unavailable
from authsvc.store import audit as audit_store
from authsvc.store.pool import Database
from tests.conftest import Clock
from tests.store.test_audit import chain


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as opened:
        yield opened


@pytest.fixture
def log(database: Database, clock: Clock) -> Confirmations:
    return Confirmations(database, clock)


def changed(clock: Clock, *owners: str, holders: int | None = 2, unconfirmed: int = 0) -> Caller:
    """Return a caller whose change had an event for each of these owners, and was waited for."""
    caller = Caller("key_1", "authsvc", (), confirmation=Confirmation())
    targets: list[tuple[str, str, dict[str, str]]] = [
        (f"key_{number}", owner_id, {}) for number, owner_id in enumerate(owners)
    ]
    AuditEvent.of_each(caller, Action.KEY_REVOKED, at=clock(), targets=targets)
    assert caller.confirmation is not None
    caller.confirmation.note(holders, 0.25, unconfirmed)
    return caller


async def written(database: Database, owner_id: str) -> list[ChainedEvent]:
    found: list[ChainedEvent] = await chain(database, owner_id)
    assert {each.event.action for each in found} <= {Action.CHANGE_CONFIRMED}
    return found


async def test_one_for_each_event_of_the_change(database: Database, log: Confirmations, clock: Clock) -> None:
    """In the chain of the same owner, for the same target, once."""
    caller = changed(clock, "acme", "globex", unconfirmed=1)
    log.note(caller)
    await log.flush()
    await log.flush()
    assert caller.confirmation is not None
    for first in caller.confirmation.recorded:
        [second] = await written(database, first.owner_id)
        assert second.event.target_id == first.target_id
        assert second.event.details == {
            "event_id": first.event_id,
            "holders": "2",
            "wait_ms": "250.0",
            "unconfirmed": "1",
        }
    assert len(caller.confirmation.recorded) == 2


@pytest.mark.parametrize("holders", [0, None])
async def test_none_without_clients(
    database: Database, log: Confirmations, clock: Clock, holders: int | None
) -> None:
    """Nor for a caller who does not want to know."""
    log.note(changed(clock, "acme", holders=holders))
    log.note(Caller("key_1", "acme", ()))
    await log.flush()
    assert await written(database, "acme") == []


async def test_an_owner_whose_chain_is_locked(database: Database, log: Confirmations, clock: Clock) -> None:
    """It holds up no other owner, and its events are written later."""
    log.note(changed(clock, "acme", "globex"))
    first = AuditEvent.of(
        Caller("key_1", "acme", ()), Action.CHANGE_CONFIRMED, at=clock(), target_id="key_9", owner_id="acme"
    )
    async with database.transaction() as connection:
        await audit_store.record(connection, [first])
        with pytest.raises(Unavailable):
            await log.flush()
        assert len(await written(database, "globex")) == 1
        assert await written(database, "acme") == []
    await log.flush()
    assert [each.event.target_id for each in await written(database, "acme")] == ["key_9", "key_0"]
    assert len(await written(database, "globex")) == 1
    assert log.dropped == 0


async def test_the_number_is_bounded(database: Database, log: Confirmations, clock: Clock) -> None:
    """Those that are not kept are counted."""
    for _ in range(MAX_PENDING // 100 + 1):
        log.note(changed(clock, *["acme"] * 100))
    assert log.dropped == 100
    await log.flush()
    assert len(await written(database, "acme")) == MAX_PENDING


def test_what_was_not_committed_is_forgotten(clock: Clock) -> None:
    """A change that is tried again has only the events of its last attempt."""
    caller = changed(clock, "acme")
    assert caller.confirmation is not None
    caller.confirmation.begin()
    assert caller.confirmation.recorded == []
