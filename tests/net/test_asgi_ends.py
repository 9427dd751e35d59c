"""How connections of the ASGI server end: by a client in the middle of something, and at a stop."""

import asyncio
import socket
from typing import Any

import pytest

from authsvc.net.asgi_server import AsgiServer
from authsvc.net.listen_address import ListenAddress
from tests.net.asgi import QUESTION, Application, connect, settled

_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
_BODY = {"type": "http.response.body", "body": b"body"}


async def _sends(send: Any) -> None:
    await send(_START)
    await send(_BODY)


async def test_a_stop_ends_applications_whose_clients_are_gone() -> None:
    """One may go on after its answer for as long as it likes, but not longer than the server."""
    ended = asyncio.Event()

    async def application(_: Any, __: Any, send: Any) -> None:
        await _sends(send)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    server = AsgiServer(application)
    connection, client = connect(server)
    connection.data_received(QUESTION)
    await settled()
    assert client.answers == 1
    connection.connection_lost(None)
    await settled()
    assert not ended.is_set()
    await server.stop(0)
    await settled()
    assert ended.is_set()
    assert not server.state.tasks


async def test_a_server_that_cannot_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no socket behind, also of those that listened already; it can be stopped and started."""
    bound = socket.socket.listen
    listened: list[socket.socket] = []

    def listen(each: socket.socket, backlog: int) -> None:
        if listened:
            raise OSError("taken")
        listened.append(each)
        bound(each, backlog)

    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{end}", 0)) for end in (1, 2)]

    async def found(*_: Any, **__: Any) -> Any:
        return addresses

    server = AsgiServer(Application())
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        patch.setattr("socket.socket.listen", listen)
        with pytest.raises(OSError, match="taken"):
            await server.start(ListenAddress("two", 0))
    assert listened[0].fileno() == -1
    await server.stop(0)
