"""A stop of the server: calls that its clients have begun are answered."""

import asyncio

from authsvc.net.listen_address import ListenAddress
from authsvc.rpc.lane.server import Server
from tests import http2
from tests.http2 import PING
from tests.lane.race import COLD, CREATE, HIT, NEW, OK, VERIFY
from tests.lane.world import World


async def test_calls_that_cross_the_notice_are_answered() -> None:
    """Until a client has read that it is to leave, it may begin calls; they are not refused."""
    server = Server(World(asyncio.get_running_loop()).served)
    port = await server.start(ListenAddress("127.0.0.1", 0))
    async with asyncio.timeout(30):
        client = await http2.Connection.open(f"127.0.0.1:{port}")
        calls = [(path, message) for path, message in ((VERIFY, HIT), (VERIFY, COLD), (CREATE, NEW))]
        begun: list[int] = []
        send = client.write

        def crossing(data: bytes) -> None:
            """Begin calls before the notice is acknowledged."""
            if data[3] == PING:
                for path, message in calls:
                    headers = http2.block(http2.call_headers(path, "Bearer known"))
                    begun.append(client._next)
                    client.call(headers, message)
                calls.clear()
            send(data)

        client.write = crossing  # type: ignore[method-assign]
        await server.stop(30)
        assert [await client.status(stream) for stream in begun] == [OK] * 3
        await client.close()
