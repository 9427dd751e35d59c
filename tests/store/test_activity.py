"""Session activity in a real database: what is written when, and how another service interprets it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from authsvc.model.activity import GUARD
from authsvc.model.use import Use
from authsvc.store.activity import ActivityStore
from authsvc.store.pool import Database
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service, serving

IDLE = timedelta(minutes=10)
TICK = timedelta(microseconds=1)


@dataclass
class Two:
    """Two services on one database, with one clock."""

    here: Service
    there: Service
    clock: Clock

    async def sign_in(self) -> Any:
        """Create a session that both services know."""
        idle_timeout = Duration()
        idle_timeout.FromTimedelta(IDLE)
        made = await self.here.admin.CreateSession(owner_id="alice", idle_timeout=idle_timeout)
        for service in (self.here, self.there):
            assert await self.code(service, made) == "VALID"
            await service.flush()
        return made

    async def code(self, service: Service, made: Any, **fields: str) -> str:
        """Return the verdict of one service on a session's token."""
        client = service.as_caller(self.here.admin_key)
        verdict = await client.VerifySession(session_token=made.session_token, **fields)
        return resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")


@pytest_asyncio.fixture
async def two(database_url: str, clock: Clock) -> AsyncIterator[Two]:
    async with serving(database_url, clock) as here, serving(database_url, clock) as there:
        yield Two(here, there, clock)


@pytest.mark.parametrize("before", [GUARD - TICK, GUARD, GUARD + TICK, IDLE - TICK], ids=str)
async def test_activity_on_one_keeps_it_alive_on_the_other(
    two: Two, before: timedelta
) -> None:  # rules 13, 27
    """Up to the exact moment at which the timeout after it is over, and no longer."""
    made = await two.sign_in()
    two.clock.now += IDLE - before
    assert await two.code(two.there, made) == "VALID"
    if before > GUARD:
        await two.there.flush()
    two.clock.now += IDLE - TICK
    session = await two.here.admin.GetSession(session_id=made.session.session_id)
    assert session.state == resources_pb2.SESSION_STATE_ACTIVE
    assert await two.code(two.here, made) == "VALID"
    two.clock.now += IDLE - TICK
    assert await two.code(two.there, made) == "VALID"
    two.clock.now += IDLE
    for service in (two.here, two.there):
        assert await two.code(service, made) == "EXPIRED"


async def test_the_last_activity_is_shown_wherever_it_was(two: Two) -> None:  # rules 23, 24
    """Its time, address and user agent, once it has been written; an empty one replaces nothing."""
    made = await two.sign_in()
    two.clock.advance(minutes=1)
    await two.code(two.there, made, client_ip="2001:db8::7", user_agent="curl/8.1")
    await two.there.flush()
    two.clock.advance(minutes=1)
    await two.code(two.here, made)
    await two.here.flush()
    [session] = (await two.here.admin.ListSessions(owner_id="alice")).sessions
    assert session.last_activity_time.ToDatetime(two.clock.now.tzinfo) == two.clock.now
    assert (session.ip_address, session.device.user_agent) == ("2001:db8::7", "curl/8.1")


async def test_a_service_that_stops_writes_what_it_has(database_url: str, clock: Clock) -> None:
    """Activity that was not written yet is written when a service drains."""
    async with serving(database_url, clock) as here:
        async with serving(database_url, clock) as there:
            two = Two(here, there, clock)
            made = await two.sign_in()
            clock.now += IDLE - GUARD - TICK
            assert await two.code(there, made) == "VALID"
        clock.now += IDLE - TICK
        assert await two.code(here, made) == "VALID"


@dataclass
class Rows:
    """The store, a session in it, and what is recorded about it."""

    store: ActivityStore
    database: Database
    session_id: str
    start: datetime

    async def recorded(self) -> tuple[datetime, str, str]:
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT last_activity_time, ip_address, user_agent FROM authsvc.sessions"
                " WHERE session_id = $1",
                self.session_id,
            )
        assert row is not None
        return tuple(row)


@pytest_asyncio.fixture
async def stored(service: Service, clock: Clock) -> Rows:
    idle_timeout = Duration()
    idle_timeout.FromTimedelta(IDLE)
    made = await service.admin.CreateSession(
        owner_id="alice", idle_timeout=idle_timeout, ip_address="192.0.2.1", user_agent="wget"
    )
    database = service.app.database
    return Rows(ActivityStore(database), database, made.session.session_id, clock.now)


async def test_recording_is_found(stored: Rows) -> None:
    """What was recorded is then found; neither goes backwards."""
    later = stored.start + IDLE - TICK
    use = Use(stored.session_id, later, "192.0.2.2", "curl/8")
    assert await stored.store.find_activity(stored.session_id, stored.start) == stored.start
    assert await stored.store.record_activity(use) == later
    assert await stored.store.record_activity(use._replace(time=stored.start)) == later
    assert await stored.store.find_activity(stored.session_id, stored.start) == later
    assert (await stored.recorded())[0] == later


@pytest.mark.parametrize("session_id", ["", "ses_unknown"])
async def test_a_session_that_is_gone(stored: Rows, session_id: str) -> None:
    """For a session that does not exist, nothing is found or recorded."""
    assert await stored.store.find_activity(session_id, stored.start) is None
    assert await stored.store.record_activity(Use(session_id, stored.start, "")) is None
    await stored.store.record_uses([Use(session_id, stored.start, "")])


async def test_what_was_told_to_be_over_is_not_revived(stored: Rows) -> None:  # rule 16
    """Until a caller has been told, late activity counts; from then on none does, whenever it was."""
    late = stored.start + timedelta(seconds=1)
    end = late + IDLE
    await stored.store.record_uses([Use(stored.session_id, late, "192.0.2.2")])
    assert await stored.store.find_activity(stored.session_id, end - TICK) == late
    before = await stored.recorded()
    assert await stored.store.find_activity(stored.session_id, end) is None
    assert await stored.store.record_activity(Use(stored.session_id, end - TICK, "192.0.2.3")) is None
    await stored.store.record_uses([Use(stored.session_id, end - TICK, "192.0.2.3")])
    assert await stored.recorded() == before
    assert await stored.store.find_activity(stored.session_id, late) is None


async def test_a_batch_never_goes_backwards(stored: Rows, clock: Clock) -> None:
    """If several services write activity, the latest stays, in whatever order they write."""
    for seconds in (3, 5, 4):
        clock.now = stored.start + timedelta(seconds=10)
        at = stored.start + timedelta(seconds=seconds)
        await stored.store.record_uses([Use(stored.session_id, at, f"192.0.2.{seconds}", "curl/8")])
    assert await stored.recorded() == (stored.start + timedelta(seconds=5), "192.0.2.5", "curl/8")


async def test_what_a_program_calls_itself_is_made_presentable(
    stored: Rows, service: Service
) -> None:  # rule 1
    """No control character and no token gets into the database, by either way of writing."""
    token = (await service.admin.CreateSession(owner_id="bob")).session_token
    at = stored.start + timedelta(seconds=1)
    hostile = f"curl\0\r\n {token} " + "x" * 600
    await stored.store.record_activity(Use(stored.session_id, at, "", hostile))
    _, _, recorded = await stored.recorded()
    await stored.store.record_uses([Use(stored.session_id, at + TICK, "", hostile)])
    _, _, batched = await stored.recorded()
    for kept in (recorded, batched):
        assert kept.startswith("curl ")
        assert 500 < len(kept) <= 512
        assert token not in kept
        assert token[-51:] not in kept
