"""HolderService: what clients that verify by themselves are told (R12 to R15 in docs/revocation.md)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.v1 import holder_service_pb2 as pb
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service, eventually, serving
from tests.rpc.following import SESSION, FollowingClient, following
from tests.rpc.refusal import refused

UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
INVALID, DENIED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED
SUB_LEASE = 1.0


@pytest.fixture
async def service(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    async with serving(database_url, clock, holder_lease=SUB_LEASE) as running:
        yield running


async def _number(service: Service) -> int:
    await asyncio.sleep(0.001)
    return len(service.app.holder.clients.clients)


async def follows(service: Service, count: int = 1) -> None:
    """Wait until so many clients follow."""
    await eventually(lambda: _number(service), lambda number: number == count)


async def unsettled(service: Service) -> None:
    """Wait until a change waits for a client."""
    clients = service.app.holder.clients

    async def is_settled() -> bool:
        await asyncio.sleep(0.001)
        return clients.settled_mark >= clients.mark

    await eventually(is_settled, lambda settled: not settled)


async def refusal_of(client: FollowingClient) -> None:
    """Raise how the stream ends."""
    while await client.call.read() is not grpc.aio.EOF:
        pass
    raise AssertionError(f"the stream ended by {await client.call.code()}")


async def test_a_revocation_waits_until_the_client_has_confirmed(service: Service) -> None:
    """It is told at once, and RevokeKey answers when it has forgotten the key."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders", scopes=["orders:read"])
    async with following(service.address, service.admin_key) as client:
        joined = await client.join()
        assert joined.lease.ToTimedelta().total_seconds() == SUB_LEASE
        assert joined.capacity == 100
        held = (await client.hold(made.key_string)).credential
        assert held.credential_id == made.key.key_id
        assert (held.owner_id, held.scopes) == ("acme", ["orders:read"])
        grant = await client.renew()
        assert grant.lease.ToTimedelta().total_seconds() == SUB_LEASE
        assert grant.now.ToDatetime() == service.clock().replace(tzinfo=None)
        revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=made.key.key_id))
        forget = await client.read("forget")
        assert forget.key_prefixes == [made.key.key_prefix]
        await unsettled(service)
        assert not revoking.done()
        await client.confirm(forget)
        await revoking
        assert service.app.holder.clients.late.count == 0


async def test_all_that_is_revoked_is_passed_on(service: Service) -> None:
    """Rotation, fewer scopes, sessions, whole owners, the policy."""
    admin = service.admin
    made = [await admin.CreateKey(owner_id="acme", display_name=f"{i}", scopes=["a", "b"]) for i in range(3)]
    session = await admin.CreateSession(owner_id="acme")
    async with following(service.address, service.admin_key) as client:
        await client.join()
        for each in made:
            assert (await client.hold(each.key_string)).HasField("credential")
        assert (await client.hold(session.session_token, SESSION)).credential.HasField("activity")
        await client.renew()
        policy = policy_pb.OwnerPolicy(owner_id="acme", keys_enabled=False)
        changed = resources_pb2.Key(key_id=made[1].key.key_id, scopes=["a"])
        changes: list[Callable[[], Awaitable[Any]]] = [
            lambda: admin.RotateKey(key_id=made[0].key.key_id),
            lambda: admin.UpdateKey(key=changed, update_mask=FieldMask(paths=["scopes"])),
            lambda: admin.RevokeAllSessions(owner_id="acme"),
            lambda: admin.UpdateOwnerPolicy(policy=policy, update_mask=FieldMask(paths=["keys_enabled"])),
        ]
        for change in changes:
            changing = asyncio.ensure_future(change())
            forget = await client.read("forget")
            assert not changing.done()
            await client.confirm(forget)
            await changing
        assert (await client.hold(made[1].key_string)).credential.disabled


async def test_a_client_that_is_cut_off_is_waited_for(service: Service) -> None:
    """For what is left of its sub-lease and the margin, and not for the lease of the worker."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with following(service.address, service.admin_key) as client:
        await client.join()
        await client.hold(made.key_string)
        await client.renew()
        [holder] = service.app.holder.clients._clients
    await follows(service)
    begun = service.app.holder.clients._stopwatch()
    await service.admin.RevokeKey(key_id=made.key.key_id)
    now = service.app.holder.clients._stopwatch()
    assert holder.until <= now
    assert now - begun < 10
    await follows(service, 0)


async def test_a_string_that_is_not_a_credential(service: Service) -> None:
    """Not found: unknown, another kind, of a wrong secret."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with following(service.address, service.admin_key) as client:
        await client.join()
        wrong = made.key_string[:-9] + ("a" if made.key_string[-9] != "a" else "b") + made.key_string[-8:]
        for text, kind in (
            ("x", SESSION),
            (wrong, pb.HOLDER_CREDENTIAL_KIND_KEY),
            (made.key_string, SESSION),
        ):
            held = await client.hold(text, kind)
            assert not held.HasField("credential")
            assert not held.unanswered


async def test_without_the_scope_to_verify_nothing_is_told(service: Service) -> None:
    """The RPC says why."""
    caller = await service.admin.CreateKey(
        owner_id="authsvc", display_name="gateway", scopes=["holders:follow", "sessions:verify"]
    )
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with following(service.address, caller.key_string) as client:
        await client.join()
        assert (await client.hold(made.key_string)).unanswered


@pytest.mark.parametrize(
    ("owner_id", "scopes", "reason"),
    [("acme", ["full_access"], "PLATFORM_ONLY"), ("authsvc", ["keys:verify"], "SCOPE_MISSING")],
)
async def test_who_may_follow(service: Service, owner_id: str, scopes: list[str], reason: str) -> None:
    caller = await service.admin.CreateKey(owner_id=owner_id, display_name="gateway", scopes=scopes)
    async with following(service.address, caller.key_string) as client:
        with refused(DENIED, reason):
            await client.send(join=pb.FollowRequest.Join(capacity=1))
            await refusal_of(client)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.FollowRequest(renew=pb.FollowRequest.Renew(number=1)), "join"),
        (pb.FollowRequest(), "message"),
        (pb.FollowRequest(join=pb.FollowRequest.Join(capacity=0)), "join.capacity"),
        (pb.FollowRequest(join=pb.FollowRequest.Join(capacity=1, instance="x" * 101)), "join.instance"),
    ],
)
async def test_a_first_message_that_is_wrong(service: Service, message: pb.FollowRequest, field: str) -> None:
    async with following(service.address, service.admin_key) as client:
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await client.call.write(message)
            await refusal_of(client)
        assert field in refusal.fields


async def test_a_later_message_that_is_wrong_has_no_credential_in_its_error(service: Service) -> None:
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with following(service.address, service.admin_key) as client:
        await client.join()
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await client.send(hold=pb.FollowRequest.Hold(credential=made.key_string))
            await refusal_of(client)
        assert list(refusal.fields) == ["hold.kind"]
        assert made.key_string not in refusal.message
    await follows(service, 0)


async def test_a_client_whose_key_is_revoked_is_ended(service: Service) -> None:
    """RevokeKey waits until it has given up; then the stream ends, and it may not join again."""
    scopes = ["holders:follow", "keys:verify"]
    caller = await service.admin.CreateKey(owner_id="authsvc", display_name="gateway", scopes=scopes)
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with following(service.address, caller.key_string) as client:
        await client.join()
        await client.hold(made.key_string)
        await client.renew()
        revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=caller.key.key_id))
        end = await client.read("end")
        assert not revoking.done()
        await client.confirm(end)
        await revoking
        assert await client.ended() is grpc.StatusCode.OK
    async with following(service.address, caller.key_string) as client:
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
            await client.send(join=pb.FollowRequest.Join(capacity=1))
            await refusal_of(client)


async def test_a_client_whose_key_expires_is_refused_its_next_sub_lease(service: Service) -> None:
    scopes = ["holders:follow", "keys:verify"]
    caller = await service.admin.CreateKey(owner_id="authsvc", display_name="gateway", scopes=scopes)
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with following(service.address, caller.key_string) as client:
        await client.join()
        await client.hold(made.key_string)
        await client.renew()
        grace = resources_pb2.Key(key_id=caller.key.key_id)
        grace.expire_time.FromDatetime(service.clock().replace(tzinfo=None))
        grace.expire_time.seconds += 60
        changing = asyncio.ensure_future(
            service.admin.UpdateKey(key=grace, update_mask=FieldMask(paths=["expire_time"]))
        )
        await client.confirm(await client.read("end"))
        await changing
    async with following(service.address, caller.key_string) as client:
        await client.join()
        await client.renew()
        service.clock.advance(seconds=61)
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_EXPIRED"):
            await client.send(renew=pb.FollowRequest.Renew(number=7))
            await client.confirm(await client.read("end"))
            await refusal_of(client)


async def test_uses_are_noted(service: Service) -> None:
    """Those of credentials that the client holds; of the future none."""
    made = [await service.admin.CreateKey(owner_id="acme", display_name=f"{i}") for i in range(2)]
    async with following(service.address, service.admin_key) as client:
        await client.join()
        await client.hold(made[0].key_string)
        uses = [pb.FollowRequest.Use(credential_id=each.key.key_id, client_ip="192.0.2.9") for each in made]
        for use in uses:
            use.use_time.FromDatetime(service.clock().replace(tzinfo=None))
            use.use_time.seconds += 3600
        await client.send(uses=pb.FollowRequest.Uses(uses=uses))
        await client.renew()
        await service.flush()
        seen = [await service.admin.GetKey(key_id=each.key.key_id) for each in made]
        assert seen[0].last_use_ip == "192.0.2.9"
        assert seen[0].last_use_time.ToDatetime() == service.clock().replace(tzinfo=None)
        assert not seen[1].HasField("last_use_time")


async def test_activity_of_a_session_is_noted(service: Service) -> None:
    """Another verification here knows of it at once."""
    made = await service.admin.CreateSession(owner_id="alice")
    async with following(service.address, service.admin_key) as client:
        await client.join()
        held = (await client.hold(made.session_token, SESSION)).credential
        service.clock.advance(seconds=100)
        use = pb.FollowRequest.Use(credential_id=held.credential_id, user_agent="curl/8")
        use.use_time.FromDatetime(service.clock().replace(tzinfo=None))
        await client.send(uses=pb.FollowRequest.Uses(uses=[use]))
        held = (await client.hold(made.session_token, SESSION)).credential
        assert held.activity.last_activity_time == use.use_time
        await service.flush()
        session = await service.admin.GetSession(session_id=held.credential_id)
        assert session.last_activity_time == use.use_time
        assert session.device.user_agent == "curl/8"


async def test_a_client_that_leaves(service: Service) -> None:
    """Its stream ends well, and nothing waits for it."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    async with following(service.address, service.admin_key) as client:
        await client.join()
        await client.hold(made.key_string)
        await client.renew()
        await client.send(leave=pb.FollowRequest.Leave())
        assert await client.ended() is grpc.StatusCode.OK
        await follows(service, 0)


async def test_a_stop_ends_the_streams(database_url: str, clock: Clock) -> None:
    """Clients are told first, and have confirmed before the worker gives up its registration."""
    async with (
        serving(database_url, clock, holder_lease=30) as service,
        following(service.address, service.admin_key) as client,
        following(service.address, service.admin_key) as other,
    ):
        await client.join()
        await client.renew()
        await service.app.holder.clients.stop()
        await client.confirm(await client.read("end"))
        assert await client.ended() is grpc.StatusCode.OK
        with refused(UNAVAILABLE, "STOPPING"):
            await other.send(join=pb.FollowRequest.Join(capacity=1))
            await refusal_of(other)


async def test_there_is_room_for_so_many(database_url: str, clock: Clock) -> None:
    async with (
        serving(database_url, clock, holders=1) as service,
        following(service.address, service.admin_key) as client,
        following(service.address, service.admin_key) as other,
    ):
        await client.join()
        with refused(EXHAUSTED, "HOLDER_LIMIT"):
            await other.send(join=pb.FollowRequest.Join(capacity=1))
            await refusal_of(other)


async def test_a_credential_that_is_revoked_while_it_is_looked_up(service: Service) -> None:
    """What the client was told last, before RevokeKey has answered, is not that the key is valid (R12)."""
    kind = pb.HOLDER_CREDENTIAL_KIND_KEY
    async with following(service.address, service.admin_key) as client:
        await client.join()
        await client.renew()
        for number in range(10, 30):
            made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
            await client.send(
                hold=pb.FollowRequest.Hold(number=number, credential=made.key_string, kind=kind)
            )
            revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=made.key.key_id))
            held = await client.read("held")
            assert held.number == number
            if not held.credential.HasField("revoke_time"):
                assert not revoking.done()
                await client.confirm(await client.read("forget"))
            await revoking


@pytest.mark.parametrize("rules", [0, 1, 2**31 - 1])
async def test_a_key_with_rate_limits_is_not_given_away(service: Service, rules: int) -> None:
    """No client may judge it by itself, whatever it says that it knows; nor one that gets a limit later."""
    limit = resources_pb2.RateLimit(name="requests", limit=10)
    limit.period.seconds = 60
    limited = await service.admin.CreateKey(owner_id="acme", display_name="x", rate_limits=[limit])
    free = await service.admin.CreateKey(owner_id="acme", display_name="x")
    async with following(service.address, service.admin_key) as client:
        await client.join(rules=rules)
        held = await client.hold(limited.key_string)
        assert (held.unanswered, held.HasField("credential")) == (True, False)
        assert (await client.hold(free.key_string)).HasField("credential")
        await client.renew()
        policy = policy_pb.OwnerPolicy(owner_id="acme", rate_limits=[limit])
        changing = asyncio.ensure_future(
            service.admin.UpdateOwnerPolicy(policy=policy, update_mask=FieldMask(paths=["rate_limits"]))
        )
        await client.confirm(await client.read("forget"))
        await changing
        assert (await client.hold(free.key_string)).unanswered
