"""No caller can take the capacity of others; measured by a stopwatch that the test controls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import grpc
import pytest

from authsvc.entrance.gate import Gate
from authsvc.model.page import Page
from authsvc.model.rate import Rate
from authsvc.verify.clock import boottime
from tests.conftest import Client, Clock, Service, serving
from tests.rpc.refusal import missing, refused
from tests.rpc.test_revoke import make

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Stopwatch:
    """A stopwatch that advances only when the test says so."""

    def __init__(self) -> None:
        self.now = boottime()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@asynccontextmanager
async def limited(
    database_url: str, clock: Clock, stopwatch: Stopwatch, **limits: Any
) -> AsyncIterator[Service]:
    """Serve with limits, behind a proxy that reports the address of each client."""
    trusted = (ip_network("127.0.0.1"),)
    async with serving(
        database_url, clock, stopwatch=stopwatch, trusted_proxies=trusted, **limits
    ) as service:
        yield service


def caller(service: Service, key_string: str | None, address: str = "198.51.100.7") -> Client:
    return Client(service.channel, key_string, x_forwarded_for=address)


def metric(service: Service, limit: str) -> float:
    value = service.app.metrics.registry.get_sample_value("authsvc_limited_total", {"limit": limit})
    assert value is not None
    return value


async def test_an_owner_that_asks_too_much_waits(
    database_url: str, clock: Clock, stopwatch: Stopwatch
) -> None:
    """With any number of keys and addresses; the error has the time to wait and the setting."""
    async with limited(database_url, clock, stopwatch, caller_limit=Rate(2, 4)) as service:
        one = caller(service, (await make(service, scopes=["keys:read"])).key_string)
        two = caller(service, (await make(service, scopes=["keys:read"])).key_string, "203.0.113.1")
        other = caller(service, (await make(service, "globex", scopes=["keys:read"])).key_string)
        for client in (one, two, one, two):
            await client.ListKeys(owner_id="acme")
        for client in (one, two):
            with refused(EXHAUSTED, "RATE_LIMITED") as refusal:
                await client.ListKeys(owner_id="acme")
            assert refusal.retry_seconds == 0.5
            assert refusal.info.metadata["setting"] == "AUTHSVC_CALLER_LIMIT"
            assert "AUTHSVC_CALLER_LIMIT" in refusal.message
        assert metric(service, "caller") == 2
        await other.ListKeys(owner_id="globex")
        stopwatch.now += 0.5
        await one.ListKeys(owner_id="acme")
        with refused(EXHAUSTED, "RATE_LIMITED"):
            await two.ListKeys(owner_id="acme")


async def test_verifications_are_not_limited(database_url: str, clock: Clock, stopwatch: Stopwatch) -> None:
    """They do not count towards the limit either; the same holds for the platform's own callers."""
    limits = {"caller_limit": Rate(1, 1), "failure_limit": Rate(1, 1)}
    async with limited(database_url, clock, stopwatch, **limits) as service:
        made = await make(service, scopes=["keys:read", "keys:verify"])
        client = caller(service, made.key_string)
        for _ in range(5):
            assert (await client.VerifyKey(key_string=made.key_string)).valid
            assert not (await client.VerifyKey(key_string="rubbish")).valid
            await service.admin.ListKeys(owner_id="acme")
        await client.ListKeys(owner_id="acme")


async def test_a_call_that_is_refused_anyway_counts(
    database_url: str, clock: Clock, stopwatch: Stopwatch
) -> None:
    """A missing scope or an invalid request also costs work."""
    async with limited(database_url, clock, stopwatch, caller_limit=Rate(1, 2)) as service:
        client = caller(service, (await make(service, scopes=["keys:read"])).key_string)
        with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
            await client.CreateKey(owner_id="acme", display_name="x")
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
            await client.ListKeys(owner_id="a b")
        with refused(EXHAUSTED, "RATE_LIMITED"):
            await client.ListKeys(owner_id="acme")


async def test_anonymous_callers_share_by_address(
    database_url: str, clock: Clock, stopwatch: Stopwatch
) -> None:
    """A flood from one address does not affect the others."""
    limits: dict[str, Any] = {"caller_limit": Rate(1, 1), "anonymous_scopes": ("keys:read",)}
    async with limited(database_url, clock, stopwatch, **limits) as service:
        await caller(service, None).ListKeys(owner_id="acme")
        with refused(EXHAUSTED, "RATE_LIMITED"):
            await caller(service, None).ListKeys(owner_id="acme")
        await caller(service, None, "203.0.113.1").ListKeys(owner_id="acme")
        await caller(service, None, "2001:db8::1").ListKeys(owner_id="acme")
        with refused(EXHAUSTED, "RATE_LIMITED"):
            await caller(service, None, "2001:db8::2").ListKeys(owner_id="acme")


async def test_who_guesses_waits(database_url: str, clock: Clock, stopwatch: Stopwatch) -> None:
    """After a number of failures, an address is refused; other addresses are not."""
    async with limited(database_url, clock, stopwatch, failure_limit=Rate(2, 3)) as service:
        guesser = caller(service, "rubbish")
        for _ in range(3):
            with refused(UNAUTHENTICATED, "CREDENTIAL_INVALID"):
                await guesser.VerifyKey(key_string="x")
        with refused(EXHAUSTED, "RATE_LIMITED") as refusal:
            await guesser.VerifyKey(key_string="x")
        assert refusal.retry_seconds == 0.5
        assert refusal.info.metadata["setting"] == "AUTHSVC_FAILURE_LIMIT"
        assert metric(service, "failure") == 1
        with refused(UNAUTHENTICATED, "CREDENTIAL_INVALID"):
            await caller(service, "rubbish", "203.0.113.1").VerifyKey(key_string="x")
        stopwatch.now += 0.5
        with refused(UNAUTHENTICATED, "CREDENTIAL_INVALID"):
            await guesser.VerifyKey(key_string="x")
        with refused(EXHAUSTED, "RATE_LIMITED"):
            await guesser.VerifyKey(key_string="x")


async def test_a_guess_beyond_the_limit_costs_nothing(
    database_url: str, clock: Clock, stopwatch: Stopwatch
) -> None:
    """It needs neither the database nor argon2, until the limit allows calls again."""
    async with limited(database_url, clock, stopwatch, failure_limit=Rate(1, 1)) as service:
        made = await make(service, scopes=["keys:verify"])
        with refused(UNAUTHENTICATED, "CREDENTIAL_INVALID"):
            await caller(service, "rubbish").VerifyKey(key_string="x")
        before = service.app.hasher.runs, service.app.database.checkouts
        with refused(EXHAUSTED, "RATE_LIMITED"):
            await caller(service, made.key_string).VerifyKey(key_string="x")
        assert (service.app.hasher.runs, service.app.database.checkouts) == before
        stopwatch.now += 1
        await caller(service, made.key_string).VerifyKey(key_string="x")


async def test_who_is_known_is_not_locked_out(database_url: str, clock: Clock, stopwatch: Stopwatch) -> None:
    """Guesses from the same address do not affect a cached key."""
    async with limited(database_url, clock, stopwatch, failure_limit=Rate(1, 1)) as service:
        made = await make(service, scopes=["keys:verify"])
        await caller(service, made.key_string).VerifyKey(key_string="x")
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await caller(service, "rubbish").VerifyKey(key_string="x")
        await caller(service, made.key_string).VerifyKey(key_string="x")


async def test_what_shows_nothing_is_no_guess(
    database_url: str, clock: Clock, stopwatch: Stopwatch, transport: str
) -> None:
    """A call without a credential costs nothing and always gets the same error."""
    async with limited(database_url, clock, stopwatch, failure_limit=Rate(1, 1)) as service:
        for _ in range(3):
            with refused(UNAUTHENTICATED, "CREDENTIAL_MISSING"):
                await caller(service, None).VerifyKey(key_string="x")
            with refused(*missing("Bearer ", transport)):
                await caller(service, "").VerifyKey(key_string="x")


@asynccontextmanager
async def waiting(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Make ListKeys wait until the block ends; yield a function that starts one and returns when it waits."""
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def wait(*_: object, **__: object) -> Any:
        arrived.release()
        await go_on.wait()
        return Page((), more=False, seal=str), 0

    async def start(client: Client, owner_id: str) -> None:
        async def ask() -> None:
            await client.ListKeys(owner_id=owner_id)

        calls.create_task(ask())
        await arrived.acquire()

    monkeypatch.setattr(service.app.keys, "list", wait)
    async with asyncio.TaskGroup() as calls:
        yield start
        go_on.set()


async def test_calls_in_flight_are_bounded(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting calls take at most half the capacity; verifications continue, and it is freed afterwards."""
    async with serving(database_url, clock, in_flight_limit=4) as service:
        async with waiting(service, monkeypatch) as start:
            for _ in range(2):
                await start(service.admin, "acme")
            with refused(EXHAUSTED, "IN_FLIGHT_LIMIT") as refusal:
                await service.admin.ListKeys(owner_id="acme")
            assert refusal.retry_seconds == 0.5
            assert metric(service, "in_flight") == 1
            await service.admin.VerifyKey(key_string="x")
        await service.admin.ListKeys(owner_id="acme")


async def test_one_owners_calls_in_flight_are_bounded(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One owner may use an eighth of the capacity; others have their own, and it is freed afterwards."""
    async with serving(database_url, clock, in_flight_limit=16, caller_limit=Rate(1000, 1000)) as service:
        made = [await make(service, owner, scopes=["keys:read"]) for owner in ("acme", "globex")]
        acme, globex = (service.as_caller(each.key_string) for each in made)
        for _ in "ab":
            async with waiting(service, monkeypatch) as start:
                for _ in range(2):
                    await start(acme, "acme")
                with refused(EXHAUSTED, "IN_FLIGHT_LIMIT") as refusal:
                    await acme.ListKeys(owner_id="acme")
                assert "one owner's calls" in refusal.message
                await start(globex, "globex")


def test_the_gate_has_so_much_room(clock: Clock) -> None:
    """Verifications may use all of it, other calls half; a call that ends frees capacity for its kind."""
    gate = Gate(4)

    def enters(*, slow: bool) -> bool:
        try:
            gate.enter(slow=slow)
        except Exception:  # noqa: BLE001 - any exception is a refusal
            return False
        return True

    assert [enters(slow=True), enters(slow=True), enters(slow=True)] == [True, True, False]
    assert [enters(slow=False), enters(slow=False), enters(slow=False)] == [True, True, False]
    gate.leave()
    assert not enters(slow=True)
    gate.leave(slow=True)
    assert enters(slow=True)
    assert gate.refused == 3
