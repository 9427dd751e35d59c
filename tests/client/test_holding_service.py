"""A client that holds, against the real service: a change that was answered is a change here."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from authsvc.client import AuthClient, VerdictCode
from authsvc.v1 import resources_pb2
from tests.client.follow_standin import until
from tests.conftest import Clock, Service
from tests.rpc.test_revoke import make
from tests.rpc.test_update import update

SCOPES = ["keys:verify", "sessions:verify", "holders:follow"]


@pytest_asyncio.fixture
async def holder(service: Service) -> AsyncIterator[AuthClient]:
    """A client with a sub-lease."""
    made = await service.admin.CreateKey(owner_id="authsvc", display_name="holder", scopes=SCOPES)
    client = AuthClient(service.address, key=made.key_string, tls=None, deadline=30, hold=True)
    async with client:
        await until(lambda: client.hold_state.lease_seconds)
        yield client


async def hold(client: AuthClient, key_string: str) -> None:
    assert await client.verify_key(key_string)
    assert client.verify_key_now(key_string)


async def test_what_is_held_is_not_asked(service: Service, holder: AuthClient) -> None:
    """A key and a session, with everything that the RPCs say of them."""
    made = await make(service, scopes=["b:c", "a"], annotations={"team": "x"})
    session = await service.admin.CreateSession(owner_id="alice", scopes=["a"])
    async with AuthClient(service.address, key=service.admin_key, tls=None, deadline=30) as asking:
        assert await holder.verify_key(made.key_string, "a") == await asking.verify_key(made.key_string, "a")
        for _ in range(2):
            held = await holder.verify_session(session.session_token, "a")
            asked = await asking.verify_session(session.session_token, "a")
            assert held.expire_time is not None
            assert asked.expire_time is not None
            # Its time is that of the last grant, and continues; the service's stands still.
            assert timedelta(0) <= held.expire_time - asked.expire_time < timedelta(seconds=30)
            assert replace(held, expire_time=None) == replace(asked, expire_time=None)
    assert (holder.hold_state.asked, holder.hold_state.received, holder.hold_state.size) == (0, 2, 2)


async def _delete(on: Service, key_id: str) -> None:
    await on.admin.RevokeKey(key_id=key_id)
    await on.admin.DeleteKey(key_id=key_id)


Change = Callable[[Service, Any], Awaitable[Any]]
CHANGES: dict[str, tuple[Change, VerdictCode]] = {
    "revoke": (lambda on, key: on.admin.RevokeKey(key_id=key.key_id), VerdictCode.REVOKED),
    "batch": (lambda on, key: on.admin.BatchRevokeKeys(owner_id=key.owner_id), VerdictCode.REVOKED),
    "rotate": (lambda on, key: on.admin.RotateKey(key_id=key.key_id), VerdictCode.REVOKED),
    "delete": (lambda on, key: _delete(on, key.key_id), VerdictCode.NOT_FOUND),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES)
async def test_a_change_that_was_answered(
    service: Service, holder: AuthClient, change: Change, code: VerdictCode
) -> None:
    """From then on, memory does not know the key, and the verdict is the new one."""
    for _ in range(10):
        made = await make(service)
        await hold(holder, made.key_string)
        await change(service, made.key)
        found = holder.verify_key_now(made.key_string)
        assert found is None or found.code is code
        assert (await holder.verify_key(made.key_string)).code is code


async def test_a_session_that_is_revoked(service: Service, holder: AuthClient) -> None:
    made = await service.admin.CreateSession(owner_id="alice")
    assert await holder.verify_session(made.session_token)
    assert holder.verify_session_now(made.session_token)
    await service.admin.RevokeAllSessions(owner_id="alice")
    assert not holder.verify_session_now(made.session_token)
    assert (await holder.verify_session(made.session_token)).code is VerdictCode.REVOKED


async def test_uses_get_to_the_service(service: Service, holder: AuthClient, clock: Clock) -> None:
    """With their time and address, a renewal later."""
    made = await make(service)
    await hold(holder, made.key_string)
    assert holder.verify_key_now(made.key_string, (), "192.0.2.7")
    async with asyncio.timeout(20):
        while True:
            await service.flush()
            key = await service.admin.GetKey(key_id=made.key.key_id)
            if key.last_use_ip == "192.0.2.7":
                break


async def test_uses_are_counted_as_those_of_the_client(service: Service, holder: AuthClient) -> None:
    """How often, from which networks, with which programs; by the key of the client."""
    made = await make(service)
    [me] = (await service.admin.ListKeys(owner_id="authsvc", filter={"query": "holder"})).keys
    await hold(holder, made.key_string)
    for number in range(6):
        assert holder.verify_key_now(made.key_string, (), f"192.0.{number % 2}.7", (), "curl/8.5.0 libcurl")
    expected = {("", "", 2), ("192.0.0.0/24", "curl/8.5", 3), ("192.0.1.0/24", "curl/8.5", 3)}
    async with asyncio.timeout(20):
        while True:
            await service.flush()
            found = await service.admin.GetKeyUsage(key_id=made.key.key_id)
            if found.total_uses >= 8:
                break
    assert {(row.network, row.program, row.uses) for row in found.usage} == expected
    assert {row.verifier_id for row in found.usage} == {me.key_id}


@pytest.mark.parametrize(("owner_id", "scopes"), [("authsvc", SCOPES[:2]), ("acme", SCOPES)])
async def test_who_may_not_hold(
    service: Service, caplog: pytest.LogCaptureFixture, owner_id: str, scopes: list[str]
) -> None:
    """Without the scope, or as a tenant, a client says so and asks."""
    made = await service.admin.CreateKey(owner_id=owner_id, display_name="k", scopes=scopes)
    with caplog.at_level(logging.WARNING, "authsvc.client"):
        async with AuthClient(
            service.address, key=made.key_string, tls=None, deadline=30, hold=True
        ) as client:
            await until(lambda: "holders:follow" in caplog.text)
            assert await client.verify_key(made.key_string)
            assert client.hold_state.asked == 1


async def test_a_key_with_rate_limits_is_asked_about_each_time(service: Service, holder: AuthClient) -> None:
    """Also one that was held before it got a limit: the client never lets more through."""
    made = await make(service)
    await hold(holder, made.key_string)
    limit = resources_pb2.RateLimit(name="requests", limit=5)
    limit.period.seconds = 86_400
    await update(service, made.key.key_id, "rate_limits", rate_limits=[limit])
    codes = [(await holder.verify_key(made.key_string)).code for _ in range(7)]
    assert codes == [VerdictCode.VALID] * 5 + [VerdictCode.RATE_LIMITED] * 2
    assert holder.verify_key_now(made.key_string) is None


async def test_a_key_with_credits_is_asked_about_each_time(service: Service, holder: AuthClient) -> None:
    """Also one that was held before it got some: the client never lets more through."""
    made = await make(service)
    await hold(holder, made.key_string)
    await update(service, made.key.key_id, "credits", credits={"remaining": 5})
    verdicts = [await holder.verify_key(made.key_string) for _ in range(7)]
    codes = [VerdictCode.VALID] * 5 + [VerdictCode.CREDITS_EXHAUSTED] * 2
    assert [each.code for each in verdicts] == codes
    assert [each.credits_remaining for each in verdicts] == [4, 3, 2, 1, 0, 0, 0]
    assert holder.verify_key_now(made.key_string) is None
