"""New keys whose strings were not delivered: shown as such, and replaced when their creator retries."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest

from authsvc.keys import replacement
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.delivery import ANSWERED_WITHIN
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests import http2
from tests.conftest import Clock, Service, eventually, serving
from tests.keys.test_revocation_at_once import held_chain
from tests.rpc.refusal import refused

EXISTS = grpc.StatusCode.ALREADY_EXISTS
CREATE: dict[str, Any] = {"owner_id": "acme", "display_name": "Orders", "request_id": "r-1"}
ACTIVE, REVOKED = resources_pb2.KEY_STATE_ACTIVE, resources_pb2.KEY_STATE_REVOKED


@pytest.fixture
async def database(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def wait_for_long(database_url: str) -> None:
    """Let the statement that creates a key wait for a lock for as long as it takes."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "ALTER FUNCTION authsvc.create_keys(jsonb, boolean, boolean, timestamptz) SET lock_timeout = '60s'"
    )
    await connection.close()


async def keys(service: Service, owner_id: str = "acme") -> list[Any]:
    """Return the keys of an owner, the newest first."""
    return list((await service.admin.ListKeys(owner_id=owner_id)).keys)


async def verdict(service: Service, key_string: str) -> str:
    answer = await service.admin.VerifyKey(key_string=key_string)
    return resources_pb2.VerdictCode.Name(answer.code).removeprefix("VERDICT_CODE_")


async def lose(service: Service, request: Any = None, method: str = "CreateKey") -> None:
    """Call, and disconnect after the key is committed and before its answer can be sent."""
    before = len(await keys(service))
    path = f"/authsvc.v1.KeyService/{method}"
    message = http2.message((request or pb.CreateKeyRequest(**CREATE)).SerializeToString())
    headers = http2.block(http2.call_headers(path, f"Bearer {service.admin_key}"))
    connection = await http2.Connection.open(service.address, window=0)
    connection.call(headers, message)
    await eventually(lambda: keys(service), lambda found: len(found) > before)
    await connection.close()
    await eventually(lambda: keys(service), lambda found: any(key.never_delivered for key in found))


async def test_an_answer_that_was_not_sent(service: Service) -> None:
    """The key is shown as never delivered, and a call with the same request_id replaces it."""
    await lose(service)
    [lost] = await keys(service)
    assert lost.state == ACTIVE
    made = await service.admin.CreateKey(**CREATE)
    assert await verdict(service, made.key_string) == "VALID"
    new, old = sorted(await keys(service), key=lambda key: key.state)
    assert (new.key_id, new.never_delivered, new.state) == (made.key.key_id, False, ACTIVE)
    assert (old.key_id, old.never_delivered, old.state) == (lost.key_id, True, REVOKED)
    assert old.revoke_reason == f"never delivered, replaced by {new.key_id}"
    events = (await service.admin.ListAuditEvents(owner_id="acme")).events
    told = [(event.action, event.target_id) for event in events]
    assert told[::-1] == [(1, old.key_id), (1, new.key_id), (4, old.key_id)]
    # It was delivered, so the request_id now names this key.
    with refused(EXISTS, "REQUEST_REPEATED") as refusal:
        await service.admin.CreateKey(**CREATE)
    assert refusal.info.metadata["key_id"] == new.key_id
    await service.admin.DeleteKey(key_id=old.key_id)
    with refused(EXISTS, "REQUEST_REPEATED") as refusal:
        await service.admin.CreateKey(**CREATE)
    assert refusal.info.metadata["key_id"] == new.key_id


async def test_a_successor_is_not_replaced(service: Service) -> None:
    """The rotated key still points to its successor."""
    old = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    await lose(service, pb.RotateKeyRequest(key_id=old.key.key_id, request_id="r-1"), "RotateKey")
    with refused(EXISTS, "REQUEST_REPEATED") as refusal:
        await service.admin.CreateKey(**CREATE)
    rotated = await service.admin.GetKey(key_id=old.key.key_id)
    assert refusal.info.metadata["key_id"] == rotated.rotated_to_key_id
    assert (await service.admin.GetKey(key_id=rotated.rotated_to_key_id)).state == ACTIVE


async def test_a_call_is_over_before_its_key_counts_as_lost(service: Service) -> None:
    """A call that waited longer for other workers could return a key that a second call has replaced."""
    replacements = replacement.Replacements(None, service.app.clock, lambda: 100.0)  # type: ignore[arg-type]
    caller = replacements.with_latest_deadline(BOOTSTRAP._replace(deadline=math.inf))
    assert caller.deadline - 100 < ANSWERED_WITHIN.total_seconds() - 10
    assert replacements.with_latest_deadline(BOOTSTRAP._replace(deadline=101.0)).deadline == 101


async def test_a_replacement_is_lost_as_well(service: Service) -> None:
    """The next call replaces it; only the last key works."""
    await lose(service)
    await lose(service)
    made = await service.admin.CreateKey(**CREATE)
    alive = [key.key_id for key in await keys(service) if key.state == ACTIVE]
    assert alive == [made.key.key_id]
    assert len(await keys(service)) == 3


async def test_without_a_request_id(service: Service) -> None:
    """The key is shown as never delivered; a delivered one is not."""
    await service.admin.CreateKey(owner_id="acme", display_name="delivered")
    await lose(service, pb.CreateKeyRequest(owner_id="acme", display_name="lost"))
    assert {key.display_name: key.never_delivered for key in await keys(service)} == {
        "delivered": False,
        "lost": True,
    }


async def test_a_rotation_that_was_not_told(service: Service) -> None:
    """Its new key is shown; the same request_id names it, and it can be rotated."""
    old = await service.admin.CreateKey(owner_id="acme", display_name="x")
    request = pb.RotateKeyRequest(key_id=old.key.key_id, request_id="r-2")
    await lose(service, request, "RotateKey")
    [lost] = [key for key in await keys(service) if key.never_delivered]
    assert lost.rotated_from_key_id == old.key.key_id
    with refused(EXISTS, "REQUEST_REPEATED") as refusal:
        await service.admin.RotateKey(request)
    assert refusal.info.metadata["key_id"] == lost.key_id
    assert await verdict(service, (await service.admin.RotateKey(key_id=lost.key_id)).key_string) == "VALID"


@pytest.mark.parametrize("how", ["is cancelled", "runs out of time"])
async def test_a_call_that_ends_while_it_is_committed(service: Service, database_url: str, how: str) -> None:
    """A retry that arrives before the commit waits for it, and replaces the key."""
    first = await service.admin.CreateKey(owner_id="acme", display_name="first")
    await wait_for_long(database_url)
    async with held_chain(database_url) as chain:
        timeout = 30 if how == "is cancelled" else 0.5
        call: Any = service.admin.CreateKey(pb.CreateKeyRequest(**CREATE), timeout=timeout)
        # gRPC sends the call in the next iteration of the event loop.
        code = asyncio.ensure_future(call.code())
        await chain.waited_for(1)
        if how == "is cancelled":
            call.cancel()
        assert await code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
        again = asyncio.ensure_future(service.admin.CreateKey(pb.CreateKeyRequest(**CREATE)))
        await chain.waited_for(2)
        await chain.release()
    made = await again
    states = {key.key_id: (key.state, key.never_delivered) for key in await keys(service)}
    assert states.pop(first.key.key_id) == (ACTIVE, False)
    assert states.pop(made.key.key_id) == (ACTIVE, False)
    assert list(states.values()) == [(REVOKED, True)]


async def test_who_may_replace_and_until_when(service: Service, clock: Clock) -> None:
    """Only its creator, for ten minutes, unless the key was revoked."""
    await lose(service)
    [lost] = await keys(service)
    other = await service.admin.CreateKey(owner_id="acme", display_name="o", scopes=["keys:write"])
    with refused(EXISTS, "REQUEST_REPEATED"):
        await service.as_caller(other.key_string).CreateKey(**CREATE)
    clock.advance(minutes=10, microseconds=1)
    with refused(EXISTS, "REQUEST_REPEATED"):
        await service.admin.CreateKey(**CREATE)
    clock.advance(microseconds=-1)
    await service.admin.RevokeKey(key_id=lost.key_id)
    with refused(EXISTS, "REQUEST_REPEATED"):
        await service.admin.CreateKey(**CREATE)
    assert len(await keys(service)) == 2


async def test_at_the_limit_of_active_keys(service: Service) -> None:
    """The replaced key makes room for the new one."""
    await service.admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "max_active_keys": 1}, update_mask={"paths": ["max_active_keys"]}
    )
    await lose(service)
    made = await service.admin.CreateKey(**CREATE)
    assert await verdict(service, made.key_string) == "VALID"


async def test_a_worker_that_was_killed(
    database_url: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    database: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """Whether its answer was sent is unknown: after a minute, an unused key may be replaced."""
    monkeypatch.setattr(replacement, "_MAX_WAIT_SECONDS", 0.0)
    async with serving(database_url, clock) as one, serving(database_url, clock) as two:
        first = await one.admin.CreateKey(**CREATE)
        await eventually(
            lambda: database.fetchval("SELECT count(*) FROM authsvc.key_uses WHERE answer IS NOT NULL"),
            lambda count: count == 0,
        )
        await database.execute(
            "UPDATE authsvc.key_uses SET answer = 'pending' WHERE key_id = $1", first.key.key_id
        )
        admin = two.as_caller(one.admin_key)
        assert (await admin.VerifyKey(key_string=first.key_string)).valid
        with refused(grpc.StatusCode.UNAVAILABLE, "REQUEST_IN_PROGRESS") as refusal:
            await one.admin.CreateKey(**CREATE)
        assert refusal.retry_seconds == 1
        assert not (await keys(one))[0].never_delivered
        clock.advance(seconds=61)
        assert (await keys(one))[0].never_delivered
        made = await one.admin.CreateKey(**CREATE)
        # The other worker has it in its cache.
        verdicts = [(await admin.VerifyKey(key_string=m.key_string)).code for m in (first, made)]
        assert verdicts == [resources_pb2.VERDICT_CODE_REVOKED, resources_pb2.VERDICT_CODE_VALID]


async def test_a_key_that_was_used_was_delivered(
    service: Service, clock: Clock, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Regardless of the recorded state of its answer."""
    made = await service.admin.CreateKey(**CREATE)
    await database.execute("UPDATE authsvc.key_uses SET answer = 'lost' WHERE key_id = $1", made.key.key_id)
    assert (await keys(service))[0].never_delivered
    assert await verdict(service, made.key_string) == "VALID"
    await service.flush()
    assert not (await keys(service))[0].never_delivered
    with refused(EXISTS, "REQUEST_REPEATED"):
        await service.admin.CreateKey(**CREATE)


async def test_an_administrator_key_that_reached_nobody_is_none(service: Service) -> None:
    """It is not counted as the last one, or as a remaining one."""
    lost = pb.CreateKeyRequest(owner_id="authsvc", display_name="lost", scopes=["full_access"])
    before = len(await keys(service, "authsvc"))
    connection = await http2.Connection.open(service.address, window=0)
    headers = http2.call_headers("/authsvc.v1.KeyService/CreateKey", f"Bearer {service.admin_key}")
    connection.call(http2.block(headers), http2.message(lost.SerializeToString()))
    await eventually(lambda: keys(service, "authsvc"), lambda found: len(found) > before)
    await connection.close()
    await eventually(lambda: keys(service, "authsvc"), lambda found: any(k.never_delivered for k in found))
    own = (await service.admin.LookupKey(key_string=service.admin_key)).key_id
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "LAST_ADMINISTRATOR_KEY"):
        await service.admin.RevokeKey(key_id=own)


async def test_what_is_noted_is_written_at_the_end(
    database_url: str,
    clock: Clock,
    database: "asyncpg.Connection[asyncpg.Record]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that stops writes the state of all answers, and counts lost ones."""
    async with serving(database_url, clock) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="x")
        monkeypatch.setattr(service.app.keys.deliveries, "_noted", asyncio.Event())
        service.app.keys.deliveries.note(made.key.key_id, sent=False)
    noted = await database.fetchval("SELECT answer FROM authsvc.key_uses WHERE key_id = $1", made.key.key_id)
    assert noted == "lost"
    assert service.app.metrics.registry.get_sample_value("authsvc_key_strings_lost_total") == 1
