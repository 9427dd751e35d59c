"""The stream of a client that verifies by itself, with a client that reads nothing."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from authsvc.model.caller import BOOTSTRAP
from authsvc.revocation.client_holder import Member
from authsvc.revocation.client_holders import ClientHolders
from authsvc.rpc import following
from authsvc.rpc.following import Following
from authsvc.verify.lease import Lease

_MEMBER = Member("key_1", "authsvc", "", "192.0.2.1", "test")


class _Silent:
    """A context whose client says nothing and reads nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def read(self) -> Any:
        await asyncio.Event().wait()

    async def write(self, message: bytes) -> None:
        self.written.append(message)
        await asyncio.Event().wait()


def _clients() -> ClientHolders:
    lease = Lease()
    lease.renew(1e12)
    return ClientHolders(lease, lambda: datetime(2026, 1, 1, tzinfo=UTC), seconds=5, limit=1)


def _stream(clients: ClientHolders, context: Any) -> Following:
    async def judge() -> Any:
        return BOOTSTRAP

    verifier: Any = None
    return Following(context, clients, verifier, lambda: BOOTSTRAP, judge)


async def _joined(clients: ClientHolders) -> None:
    async with asyncio.timeout(10):
        while not clients.clients:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_stream_that_is_not_read_ends_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it cannot outlast the place that its client had."""
    monkeypatch.setattr(following, "_MAX_END_SECONDS", 0.01)
    clients = _clients()
    running = asyncio.ensure_future(_stream(clients, _Silent()).run(_MEMBER, 10, 3600))
    await _joined(clients)
    clients.end_one(clients.clients[0], "it is idle")
    async with asyncio.timeout(10):
        await running
    assert clients.clients == ()


async def test_a_client_that_reads_too_little_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it has a bound. It may answer until its sub-lease is over."""
    monkeypatch.setattr(following, "_MAX_END_SECONDS", 0.01)
    monkeypatch.setattr(following, "_MAX_QUEUED_BYTES", 1000)
    clients, context = _clients(), _Silent()
    stream = _stream(clients, context)
    running = asyncio.ensure_future(stream.run(_MEMBER, 10, 3600))
    await _joined(clients)
    client = clients.clients[0]
    clients.renew(client, 1)
    for number in range(100):
        stream.forget(number, ("authsvc_live_abcdefghijkl",), "", None)
    assert stream._queued_bytes <= 1100
    async with asyncio.timeout(10):
        await running
    assert clients.clients == (client,)
    assert client.is_lost
