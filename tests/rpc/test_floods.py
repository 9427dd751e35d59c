"""A tenant that floods the database delays only its own calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.model.key_query import KeyQuery
from authsvc.model.rate import UNLIMITED
from authsvc.store import key_list
from authsvc.store.pool import Connection
from authsvc.v1 import owner_policy_service_pb2, resources_pb2
from tests.conftest import Client, Clock, Service, eventually, serving
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import REVOKED, make

_SCOPES = ["keys:read", "keys:write", "sessions:write"]
_BLOCKED = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"


@pytest.fixture
async def unlimited(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    """A service without a rate limit per owner, since with many workers each has its own limit."""
    async with serving(database_url, clock, caller_limit=UNLIMITED) as service:
        yield service


@pytest.fixture
async def paused(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A transaction that holds its locks until the test ends it."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("BEGIN")
    yield connection
    await connection.close()


@asynccontextmanager
async def flooding(calls: Sequence[Callable[[], Awaitable[object]]]) -> AsyncIterator[None]:
    """Make all these calls while the block runs; repeat each one that is refused."""
    over = asyncio.Event()

    async def insist(call: Callable[[], Awaitable[object]]) -> None:
        while not over.is_set():
            with suppress(grpc.aio.AioRpcError):
                await call()
                return

    tasks = [asyncio.create_task(insist(call)) for call in calls]
    try:
        yield
    finally:
        over.set()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def all_block(paused: "asyncpg.Connection[asyncpg.Record]", least: int) -> None:
    """Return when this many statements of the service wait for a lock."""
    await eventually(lambda: paused.fetchval(_BLOCKED), lambda count: count >= least)


async def tenant(service: Service, owner_id: str) -> tuple[Client, str]:
    """Return a client of a tenant, and the id of a key of that tenant."""
    made = await make(service, owner_id, scopes=_SCOPES)
    return service.as_caller(made.key_string), (await make(service, owner_id)).key.key_id


async def test_a_slow_batch_of_a_tenant_stops_nobody_else(
    unlimited: Service, paused: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Its calls wait for one another. Meanwhile the platform revokes, and another tenant changes its keys."""
    service = unlimited
    acme, slow = await tenant(service, "acme")
    globex, other = await tenant(service, "globex")
    leaked = await make(service, "initech")
    await paused.execute("SELECT FROM authsvc.keys WHERE key_id = $1 FOR UPDATE", slow)

    async def batch() -> object:
        return await acme.BatchRevokeKeys(key_ids=[slow])

    async with flooding([batch] * 60):
        await all_block(paused, 8)
        revoked = await service.admin.RevokeKey(key_id=leaked.key.key_id)
        assert revoked.state == REVOKED
        assert not (await service.admin.VerifyKey(key_string=leaked.key_string)).valid
        key = resources_pb2.Key(key_id=other, display_name="renamed")
        await globex.UpdateKey(key=key, update_mask=FieldMask(paths=["display_name"]))
        assert (await globex.RevokeKey(key_id=other)).state == REVOKED


async def test_slow_batches_of_many_tenants_do_not_stop_the_platform(
    unlimited: Service, paused: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Together they use all capacity for tenants; the platform can still revoke."""
    service = unlimited
    tenants = [await tenant(service, owner_id) for owner_id in ("acme", "globex", "initech", "umbrella")]
    leaked, also = await make(service, "hooli"), await make(service, "hooli")
    session = await service.admin.CreateSession(owner_id="hooli")
    for _, slow in tenants:
        await paused.execute("SELECT FROM authsvc.keys WHERE key_id = $1 FOR UPDATE", slow)

    def batch(client: Client, key_id: str) -> Callable[[], Awaitable[object]]:
        async def call() -> object:
            return await client.BatchRevokeKeys(key_ids=[key_id])

        return call

    async with flooding([batch(*each) for each in tenants * 20]):
        await all_block(paused, 9)
        admin = service.admin
        await admin.RevokeKey(key_id=leaked.key.key_id)
        await admin.RevokeSession(session_id=session.session.session_id)
        await admin.RevokeAllSessions(owner_id="hooli")
        await admin.BatchRevokeKeys(owner_id="hooli")
        off = owner_policy_service_pb2.OwnerPolicy(owner_id="acme", keys_enabled=False)
        await admin.UpdateOwnerPolicy(policy=off, update_mask=FieldMask(paths=["keys_enabled"]))
        for made in leaked, also:
            assert not (await admin.VerifyKey(key_string=made.key_string)).valid


async def test_lists_of_a_tenant_stop_nobody_else(
    unlimited: Service, paused: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow lists leave capacity for changes, cold keys, and the lists of other owners."""
    service = unlimited
    acme, _ = await tenant(service, "acme")
    leaked, cold = await make(service, "globex"), await make(service, "globex")
    page = key_list.page
    await paused.execute("SELECT pg_advisory_xact_lock(7)")

    async def slow_page(connection: Connection, query: KeyQuery, **how: Any) -> object:
        if query.owner_id == "acme":
            await connection.execute("SELECT pg_advisory_xact_lock(7)")
        return await page(connection, query, **how)

    monkeypatch.setattr(key_list, "page", slow_page)

    async def show() -> object:
        return await acme.ListKeys(owner_id="acme")

    async with flooding([show] * 95):
        await all_block(paused, 1)
        admin = service.admin
        assert (await admin.RevokeKey(key_id=leaked.key.key_id)).state == REVOKED
        assert (await admin.VerifyKey(key_string=cold.key_string)).valid
        assert len((await admin.ListKeys(owner_id="globex")).keys) == 2


async def test_a_lock_that_is_held_is_told_as_such(
    service: Service, paused: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that nothing was done and when to retry, and does not blame the database."""
    monkeypatch.setattr("authsvc.store.lock_wait._LOCK_TIMEOUT_MS", 20)
    made = await make(service)
    await paused.execute("SELECT FROM authsvc.keys WHERE key_id = $1 FOR UPDATE", made.key.key_id)
    with refused(grpc.StatusCode.UNAVAILABLE, "LOCK_TIMEOUT") as refusal:
        await service.admin.RevokeKey(key_id=made.key.key_id)
    assert refusal.retry_seconds == 0.5
    assert "nothing was done" in refusal.message
    assert "out of reach" not in refusal.message
    assert (await service.admin.VerifyKey(key_string=made.key_string)).valid
    await paused.execute("ROLLBACK")
    assert (await service.admin.RevokeKey(key_id=made.key.key_id)).state == REVOKED


async def test_many_revocations_at_once_are_all_done(service: Service) -> None:
    """They wait for the same locks, of one owner's audit chain and of the feed, and none is refused."""
    made = [await make(service) for _ in range(64)]
    revoked = await asyncio.gather(*(service.admin.RevokeKey(key_id=each.key.key_id) for each in made))
    assert {key.state for key in revoked} == {REVOKED}


async def test_slots_are_shown(service: Service) -> None:
    """How many exist, are in use, are waited for and were refused, by kind."""
    sample = service.app.metrics.registry.get_sample_value
    sizes = {"change": 8, "list": 2, "revocation": 1, "platform_revocation": 1}
    async with service.app.database.transaction("acme"):
        for kind, size in sizes.items():
            label = {"kind": kind}
            assert sample("authsvc_database_slots", label) == size
            assert sample("authsvc_database_slots_in_use", label) == (kind == "change")
            assert sample("authsvc_database_slots_waiting", label) == 0
            assert sample("authsvc_database_slots_refused_total", label) == 0
