"""Listeners for both address families: a caller over IPv4 has an IPv4 address."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from authsvc.v1 import audit_service_pb2 as audit
from authsvc.v1.audit_service_pb2 import AuditEvent
from tests.conftest import Client, Clock, Service, serving
from tests.gateway.client import get_http1
from tests.gateway.conftest import ASKS, bearer, key

# The address that is called, and the address of the caller.
_CALLED = [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("[::ffff:127.0.0.1]", "127.0.0.1")]


@pytest.fixture
async def everywhere(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    """A service that listens on all addresses."""
    listening: dict[str, Any] = {
        "listen": "[::]:0",
        "http_listen": "[::]:0",
        "insecure": "plaintext-beyond-loopback",
    }
    async with serving(database_url, clock, **listening) as service:
        yield service


@pytest.mark.parametrize(("called", "kept"), _CALLED)
async def test_a_caller_has_one_address(everywhere: Service, called: str, kept: str) -> None:  # rules 23, 24
    """On its key, in its changes and in its refused attempts."""
    text, key_id = await key(everywhere, "full_access")
    narrow, narrow_id = await key(everywhere, "keys:read")

    async def events(*actions: audit.AuditAction.ValueType) -> list[AuditEvent]:
        asked = audit.AuditEventFilter(actions=actions)
        return list((await everywhere.admin.ListAuditEvents(owner_id="acme", filter=asked)).events)

    async with grpc.aio.insecure_channel(f"{called}:{everywhere.app.port}") as channel:
        caller = Client(channel, text)
        await caller.CreateKey(owner_id="acme", display_name="theirs")
        for told, shown in (("::ffff:203.0.113.7", "203.0.113.7"), ("[2001:DB8::0001]:443", "2001:db8::1")):
            opened = await caller.CreateSession(owner_id="acme", ip_address=told)
            assert opened.session.ip_address == shown
            [event, *_] = await events(audit.AUDIT_ACTION_SESSION_CREATED)
            assert (event.client_ip, event.details["ip_address"]) == (kept, shown)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Client(channel, narrow).CreateKey(owner_id="acme", display_name="x")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await everywhere.flush()
    for each in (key_id, narrow_id):
        assert (await everywhere.admin.GetKey(key_id=each)).last_use_ip == kept
    [created, *_] = await events(audit.AUDIT_ACTION_KEY_CREATED)
    [refused] = await events(audit.AUDIT_ACTION_REFUSED)
    assert (created.actor_id, created.client_ip) == (key_id, kept)
    assert (refused.actor_id, refused.client_ip) == (narrow_id, kept)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_proxy_has_one_address(everywhere: Service, address: str) -> None:  # rule 23
    """The listener for checks over HTTP also accepts both families."""
    own, own_id = await key(everywhere, *ASKS, owner_id="authsvc")
    text, key_id = await key(everywhere)
    headers = [
        ("X-Authsvc-Key", own),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/"),
        ("X-Forwarded-For", "::ffff:203.0.113.7"),
        *bearer(text),
    ]
    answer = await get_http1(everywhere.app.http_port, "/check", headers, address=address)
    assert answer.status == 200
    await everywhere.flush()
    assert (await everywhere.admin.GetKey(key_id=own_id)).last_use_ip == address
    assert (await everywhere.admin.GetKey(key_id=key_id)).last_use_ip == "203.0.113.7"
