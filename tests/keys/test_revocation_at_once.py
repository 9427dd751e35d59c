"""Revocations by one statement, which relies on keys as they were read without a lock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.store.migrate import migrate
from authsvc.store.pool import Database
from authsvc.v1 import audit_service_pb2, resources_pb2
from tests.conftest import Clock, Service, eventually, serving
from tests.faults.authority_course import Chain
from tests.faults.load import reason_of
from tests.keys.test_round_trips import Counter
from tests.revocation.test_barrier import code, two_workers
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import make
from tests.rpc.test_update import update

REVOKED = resources_pb2.KEY_STATE_REVOKED
_KEY_REVOKED = audit_service_pb2.AUDIT_ACTION_KEY_REVOKED


@asynccontextmanager
async def held_chain(database_url: str) -> AsyncIterator[Chain]:
    """Hold the end of acme's audit chain, where changes of its keys wait with all their other locks."""
    connection = await asyncpg.connect(database_url)
    try:
        chain = Chain(connection)
        await chain.hold("acme")
        yield chain
    finally:
        await connection.close()


@pytest.mark.parametrize("keys", [1, 3])
async def test_no_transaction_of_several_messages(database_url: str, keys: int) -> None:
    """The statement that revokes is the whole transaction; all workers have forgotten the keys after it."""
    async with Counter(database_url) as counter, serving(counter.url, None) as service:
        made = [await make(service) for _ in range(keys)]
        begun = counter.begun
        if keys == 1:
            key = await service.admin.RevokeKey(key_id=made[0].key.key_id, reason="leaked")
            revoked = [key]
        else:
            answer = await service.admin.BatchRevokeKeys(
                key_ids=[each.key.key_id for each in made], reason="leaked"
            )
            assert answer.revoked_count == keys
            revoked = list(answer.keys)
        assert counter.begun == begun
        for each, key in zip(made, revoked, strict=True):
            assert await service.admin.GetKey(key_id=each.key.key_id) == key
            assert (key.state, key.revoke_reason) == (REVOKED, "leaked")
            verdict = await service.admin.VerifyKey(key_string=each.key_string)
            assert verdict.code == resources_pb2.VERDICT_CODE_REVOKED


async def test_of_two_revocations_one_is_the_first(service: Service, database_url: str) -> None:
    """Both have read the key as active. The second sees under its locks that it was revoked meanwhile."""
    made = await make(service)
    async with held_chain(database_url) as chain:
        calls = [
            asyncio.ensure_future(service.admin.RevokeKey(key_id=made.key.key_id, reason=reason))
            for reason in ("one", "other")
        ]
        await chain.waited_for(2)
        await chain.release()
    done, refused = [], []
    for call in asyncio.as_completed(calls):
        try:
            done.append(await call)
        except grpc.aio.AioRpcError as error:
            refused.append(reason_of(error))
    assert (len(done), refused) == (1, ["KEY_ALREADY_REVOKED"])
    assert await service.admin.GetKey(key_id=made.key.key_id) == done[0]
    page = await service.admin.ListAuditEvents(owner_id="acme")
    actions = [event.action for event in page.events]
    assert actions.count(_KEY_REVOKED) == 1


@pytest.mark.parametrize("batch", [False, True])
async def test_a_key_that_changes_meanwhile(service: Service, database_url: str, batch: bool) -> None:
    """A revocation that waited for an update revokes the key as the update left it."""
    made = await make(service)
    key_id = made.key.key_id
    async with held_chain(database_url) as chain:
        updating = asyncio.ensure_future(update(service, key_id, "description", description="new"))
        await chain.waited_for(1)
        calls = service.admin
        revoking: Any = calls.BatchRevokeKeys(key_ids=[key_id]) if batch else calls.RevokeKey(key_id=key_id)
        revoking = asyncio.ensure_future(revoking)
        await chain.waited_for(2)
        await chain.release()
    updated = await updating
    answer = await revoking
    revoked = answer.keys[0] if batch else answer
    assert (revoked.state, revoked.description) == (REVOKED, "new")
    assert len({made.key.etag, updated.etag, revoked.etag}) == 3
    assert await service.admin.GetKey(key_id=key_id) == revoked


@pytest.fixture(params=["owner", "serving role"])
async def url(request: pytest.FixtureRequest, empty_database_url: str, plain_role: str) -> str:
    """The URL of a database, by which the owner of the schema connects or a role that may only serve."""
    await migrate(empty_database_url, serving_role=plain_role)
    if request.param == "owner":
        return empty_database_url
    place = urlsplit(empty_database_url)
    return f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"


async def test_what_is_revoked_at_the_same_time_shares_a_commit(url: str) -> None:
    """All of them are answered as if each were alone, whoever calls; the entries of the feed are fewer."""
    async with two_workers(url) as (one, other):
        owners = [f"owner{n}" for n in range(8)]
        managers = {owner: await make(one, owner, scopes=["keys:write"]) for owner in owners}
        made = [await make(one, owner) for owner in owners for _ in range(8)]
        for each in made:
            assert await code(other, each.key_string) == "VALID"
        before = one.app.holder.seq
        calls = []
        for n, each in enumerate(made):
            by = one.admin if n % 2 else one.as_caller(managers[each.key.owner_id].key_string)
            calls.append(by.RevokeKey(key_id=each.key.key_id, reason=f"reason {n}"))
        revoked = await asyncio.gather(*calls)
        assert one.app.holder.seq == other.app.holder.seq
        assert one.app.holder.seq - before < len(made) - 8
        for n, (each, key) in enumerate(zip(made, revoked, strict=True)):
            manager = managers[each.key.owner_id].key.key_id
            assert (key.key_id, key.state) == (each.key.key_id, REVOKED)
            assert key.revoke_reason == f"reason {n}"
            assert key.revoker_id == (each.key.creator_id if n % 2 else manager)
            assert [await code(worker, each.key_string) for worker in (one, other)] == ["REVOKED"] * 2
        for owner in owners:
            page = await one.admin.ListAuditEvents(owner_id=owner, page_size=1000)
            gone = [event.target_id for event in page.events if event.action == _KEY_REVOKED]
            assert sorted(gone) == sorted(each.key.key_id for each in made if each.key.owner_id == owner)


@pytest.mark.parametrize("number", [1, 4])
async def test_no_owner_waits_for_another(service: Service, database_url: str, number: int) -> None:
    """Of revocations that would share a statement, those that have to wait for a lock wait alone."""
    acme = [await make(service) for _ in range(number)]
    others = [await make(service, f"owner{n}") for n in range(8)]
    async with held_chain(database_url) as chain:
        waiting = [asyncio.ensure_future(service.admin.RevokeKey(key_id=each.key.key_id)) for each in acme]
        await chain.waited_for(1)
        creating = asyncio.ensure_future(make(service))
        await asyncio.gather(*(make(service, f"owner{n}") for n in range(4)))
        answered = await asyncio.gather(*(service.admin.RevokeKey(key_id=each.key.key_id) for each in others))
        assert {key.state for key in answered} == {REVOKED}
        assert not any(call.done() for call in [*waiting, creating])
        await chain.release()
    await creating
    assert {key.state for key in await asyncio.gather(*waiting)} == {REVOKED}


async def test_a_caller_that_is_revoked_beside_its_own_revocation(service: Service) -> None:
    """Whichever comes first, nothing is revoked by a caller after its own revocation in the same chain."""
    for _ in range(10):
        caller = await make(service, scopes=["keys:write"])
        target = await make(service)
        by = service.as_caller(caller.key_string)
        await asyncio.gather(
            service.admin.RevokeKey(key_id=caller.key.key_id),
            by.RevokeKey(key_id=target.key.key_id),
            return_exceptions=True,
        )
        page = await service.admin.ListAuditEvents(owner_id="acme")
        places = {event.target_id: event.position for event in page.events if event.action == _KEY_REVOKED}
        key = await service.admin.GetKey(key_id=target.key.key_id)
        assert (key.state == REVOKED) == (target.key.key_id in places)
        assert places.get(target.key.key_id, 0) < places[caller.key.key_id]


async def test_a_caller_that_expires_while_it_waits_for_a_slot(service: Service, clock: Clock) -> None:
    """The time is that at which the statement is sent, after all waits."""
    caller = await make(service, scopes=["keys:write"], ttl=Duration(seconds=60))
    target = await make(service)
    database = service.app.keys._database
    by = service.as_caller(caller.key_string)
    await by.UpdateKey(  # It is in memory now.
        key={"key_id": target.key.key_id, "display_name": "y"}, update_mask={"paths": ["display_name"]}
    )
    async with AsyncExitStack() as stack:
        for n in range(database.slots.changes.size):
            await stack.enter_async_context(database.transaction(f"owner{n}"))
        for n in range(database.slots.reserve.size):
            await stack.enter_async_context(database.transaction(f"owner{n}", revokes=True))
        calls = [
            asyncio.ensure_future(by.RevokeKey(key_id=target.key.key_id)),
            asyncio.ensure_future(by.CreateKey(owner_id="acme", display_name="late")),
        ]
        await eventually(lambda: _waiting(database), lambda waiting: waiting >= 2)
        clock.advance(seconds=61)
    for call in calls:
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_EXPIRED"):
            await call
    assert (await service.admin.GetKey(key_id=target.key.key_id)).state != REVOKED


async def _waiting(database: Database) -> int:
    await asyncio.sleep(0)
    return sum(slots.waiting for slots in (database.slots.changes, database.slots.reserve))
