"""Health for watchers that are slow, many or hostile."""

import asyncio
import struct
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authsvc.entrance.strangers import Strangers
from authsvc.model.rate import UNLIMITED
from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.balance import Balance
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.connections import Connections
from authsvc.rpc.health import Health
from authsvc.rpc.public import NoSuchRpc, Public
from authsvc.rpc.rpc import Rpc
from authsvc.rpc.server import Handlers
from authsvc.verify.clock import boottime

STATES = health_pb2.HealthCheckResponse


class Stand:
    """A server with only the health service."""

    def __init__(self, health: Health, port: int, channel: grpc.aio.Channel) -> None:
        self.health = health
        self.port = port
        self.stub = health_pb2_grpc.HealthStub(channel)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    health, server = Health(["a.Service"]), grpc.aio.server()
    strangers = Strangers(UNLIMITED, boottime)
    balance = Balance(None, 0, boottime)
    bounds = Bounds(Arrivals(1, 1, boottime), Answers(boottime), Connections(8, boottime), balance, boottime)
    public = Public(strangers, bounds)
    rpcs = {rpc.path: rpc for rpc in health.rpcs(public)}
    server.add_generic_rpc_handlers([Handlers(rpcs, Rpc("", NoSuchRpc(strangers).handle))])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await health.begin()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Stand(health, port, channel)
    await server.stop(0)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return an HTTP/2 frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def watch_without_reading(port: int) -> asyncio.StreamWriter:
    """Watch with a flow-control window of zero; return when the server handles the call."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Watch",
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    window_of_zero = struct.pack(">HI", 4, 0)
    writer.write(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, window_of_zero)
        + frame(1, 4, 1, block)
        + frame(0, 1, 1, bytes(5))
    )
    # Headers come first and are not subject to flow control.
    while True:
        head = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(head[:3]))
        if head[3] == 1:
            return writer


async def test_a_watcher_who_does_not_read_holds_up_nobody(stand: Stand) -> None:
    """Neither updates of other watchers nor a shutdown."""
    watch = stand.stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == STATES.SERVING
    stalled = await watch_without_reading(stand.port)
    async with asyncio.timeout(10):
        await stand.health.stop()
        assert (await watch.read()).status == STATES.NOT_SERVING
        stand.health.release()
        assert await watch.read() is grpc.aio.EOF
    stalled.close()


async def test_each_change_is_told(stand: Stand) -> None:
    """For a service that exists; one that does not is SERVICE_UNKNOWN until the stream ends."""
    known = stand.stub.Watch(health_pb2.HealthCheckRequest(service="a.Service"))
    unknown = stand.stub.Watch(health_pb2.HealthCheckRequest(service="no.Service"))
    assert [(await watch.read()).status for watch in (known, unknown)] == [
        STATES.SERVING,
        STATES.SERVICE_UNKNOWN,
    ]
    await stand.health.stop()
    assert (await known.read()).status == STATES.NOT_SERVING
    stand.health.release()
    assert await known.read() is await unknown.read() is grpc.aio.EOF


async def test_a_long_name_is_not_kept(stand: Stand) -> None:
    """Watching needs no credential, so the memory per watcher is bounded."""
    watch = stand.stub.Watch(health_pb2.HealthCheckRequest(service="x" * 1_000_000))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await watch.read()
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
