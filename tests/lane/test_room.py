"""A server that has as many connections as it may have."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authsvc.net.listen_address import ListenAddress
from authsvc.rpc.lane.server import Server
from tests import http2
from tests.lane.race import HIT, OK, VERIFY
from tests.lane.world import World

_CONNECTIONS = 8
_KNOWN = http2.block(http2.call_headers(VERIFY, "Bearer known"))


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Run a server of few connections while the block runs, and yield its address."""
    server = Server(World(asyncio.get_running_loop()).served)
    port = await server.start(ListenAddress("127.0.0.1", 0))
    try:
        async with asyncio.timeout(30):
            yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def called(address: str) -> http2.Connection:
    """Return a connection that a caller has used."""
    connection = await http2.Connection.open(address)
    assert await connection.status(connection.call(_KNOWN, HIT)) == OK
    return connection


async def test_a_new_connection_replaces_a_silent_one() -> None:
    """The oldest of those that have said nothing, before any other."""
    async with serving() as address:
        host, _, port = address.rpartition(":")
        stranger = await http2.Connection.open(address)
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(_CONNECTIONS - 1)]
        known = await called(address)
        assert await silent[0][0].read() == b""
        another = await called(address)
        assert await silent[1][0].read() == b""
        assert not stranger.closed.is_set()
        for _, writer in silent:
            writer.close()
        for each in (stranger, known, another):
            await each.close()


async def test_a_new_connection_replaces_one_without_a_caller() -> None:
    """The oldest one, when none is silent."""
    async with serving() as address:
        known = await called(address)
        strangers = [await http2.Connection.open(address) for _ in range(_CONNECTIONS - 1)]
        another = await called(address)
        await strangers[0].closed.wait()
        assert await known.status(known.call(_KNOWN, HIT)) == OK
        for each in (known, another, *strangers):
            await each.close()


async def test_connections_of_callers_are_kept() -> None:
    """A new one is closed at once."""
    async with serving() as address:
        known = [await called(address) for _ in range(_CONNECTIONS)]
        refused = await http2.Connection.open(address)
        await refused.closed.wait()
        for each in known:
            assert await each.status(each.call(_KNOWN, HIT)) == OK
        for each in (*known, refused):
            await each.close()
