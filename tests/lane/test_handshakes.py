"""Connections whose handshake of TLS is under way."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from authsvc.net.listen_address import ListenAddress
from authsvc.rpc.lane import connection, server
from authsvc.rpc.lane.server import Server
from authsvc.rpc.tls import Tls
from tests.certificates import Authority
from tests.conftest import eventually
from tests.http2 import SETTINGS
from tests.lane.loop import Loop, run
from tests.lane.memory import PREFACE, settings
from tests.lane.world import World

_CONNECTIONS = 8


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tls(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tls:
    """TLS of a server that would wait very long for a handshake."""
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 3600.0)
    monkeypatch.setattr(server, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.1)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.issue().write(cert, key)
    return Tls(cert, key)


@asynccontextmanager
async def serving(tls: Tls, *, grace: float = 0) -> AsyncIterator[tuple[Server, int]]:
    """Run a server while the block runs, and yield it and its port."""
    stand = Server(World(asyncio.get_running_loop()).served, tls=tls)
    port = await stand.start(ListenAddress("127.0.0.1", 0))
    try:
        yield stand, port
    finally:
        await stand.stop(grace)


async def connections(stand: Server, holds: Callable[[int], bool]) -> None:
    """Wait until the number of connections is such."""

    async def count() -> int:
        await asyncio.sleep(0)
        return len(stand.connections)

    await eventually(count, holds)


async def test_they_are_closed_for_room(tls: Tls) -> None:
    """Like other connections without a caller, so that they cannot take all places."""
    async with serving(tls) as (stand, port):
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(_CONNECTIONS)]
        await connections(stand, lambda count: count == _CONNECTIONS)
        for _ in range(2):  # new ones have until the next look
            stand.watch._next_count = 0
            await stand.watch.look()
        await connections(stand, lambda count: count == _CONNECTIONS * 0.75)
        for _, writer in clients:
            writer.close()


async def test_a_stop_does_not_wait_for_them(tls: Tls) -> None:
    """It waits a moment, and not for as long as calls in flight get."""
    async with serving(tls, grace=3600) as (stand, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await connections(stand, lambda count: count == 1)
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("said", [b"\x16", b"\x16\x03\x01\x02\x00" + bytes(511)])
async def test_a_client_that_has_said_too_little_is_silent(tls: Tls, said: bytes) -> None:
    """Nothing is done for it before its first record is complete, so it is the first to make room."""
    async with serving(tls) as (stand, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        await connections(stand, lambda count: count == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(stand._silent) == 1
        writer.write(bytes(600))  # not a handshake
        await connections(stand, lambda count: count == 0)
        await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", PREFACE, b"\x17\x03\x03\xff\xff", b"\x16\x04\x03\xff\xff"]
)
async def test_a_client_that_does_not_speak_tls(tls: Tls, said: bytes) -> None:
    """It is refused at once: what would be the length of a record is no reason to wait for more."""
    async with serving(tls) as (stand, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        await reader.read()
        await connections(stand, lambda count: count == 0)
        writer.close()


async def test_a_client_that_gives_up_its_handshake(tls: Tls, authority: Authority) -> None:
    """It is forgotten; the next one is served."""
    async with serving(tls) as (stand, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await connections(stand, lambda count: count == 1)
        writer.transport.abort()
        await connections(stand, lambda count: count == 0)
        context = ssl.create_default_context(cadata=authority.cert.decode())
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        writer.write(PREFACE + settings())
        assert (await reader.readexactly(9))[3] == SETTINGS
        writer.close()


def test_one_that_ends_while_the_server_stops() -> None:
    """Its client is told to use another connection."""

    async def played(loop: Loop) -> None:
        world = World(loop)
        world.connection.leave(loop.time() + 30)
        async with world.serving():
            world.transport.take_all()
            await world.feed(PREFACE + settings())
            assert len(world.answers.goaways) == 1
            await world.passes(3)
            assert world.transport.is_lost

    run(played)
