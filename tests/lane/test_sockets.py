"""Connections over sockets, where the kernel knows of an end before the event loop does."""

import asyncio
import logging
import socket
import struct

import pytest

from authsvc.net.listen_address import ListenAddress
from authsvc.rpc.lane.server import Server
from tests.conftest import eventually
from tests.http2 import GOAWAY, frame
from tests.lane.memory import PREFACE, settings
from tests.lane.world import World

_AT_ONCE = struct.pack("ii", 1, 0)
_BROKEN = frame(GOAWAY, 0, 1, bytes(8))  # a GOAWAY of a stream is an error of the connection


@pytest.mark.parametrize("last", [frame(GOAWAY, 0, 0, bytes(8)), _BROKEN], ids=["leaves", "breaks"])
async def test_a_client_that_resets_what_the_server_is_about_to_end(
    last: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its last bytes and its reset are there before the server looks: an end like any other."""
    caplog.set_level(logging.INFO)
    loop = asyncio.get_running_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    server = Server(World(loop).served)
    port = await server.start(ListenAddress("127.0.0.1", 0))

    async def count() -> int:
        await asyncio.sleep(0)
        return len(server.connections)

    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, PREFACE + settings())
        await eventually(count, lambda open_now: open_now == 1)
        assert await loop.sock_recv(client, 9)
        # Nothing is awaited from here on, so the server sees both at once.
        client.send(last)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    await eventually(count, lambda open_now: open_now == 0)
    await server.stop(0)
    assert faults == []
    assert caplog.records == []
