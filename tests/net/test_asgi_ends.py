"""How connections of the ASGI server end: by a client in the middle of something, and at a stop."""

import asyncio
import socket
from typing import Any

import pytest

from authsvc.net.asgi_server import AsgiServer
from authsvc.net.listen_address import ListenAddress
from tests.net.asgi import QUESTION, Application, PlayedClient, connect, settled

_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
_BODY = {"type": "http.response.body", "body": b"body"}


async def test_the_end_of_a_client_is_noticed_after_a_large_body() -> None:
    """The server reads on when it has all of the body, also if the application has not received it."""
    application = Application()
    application.reads = False
    application.may_answer.clear()
    size = 200_000
    connection, client = connect(AsgiServer(application, max_body_bytes=size))
    connection.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
    reads = []
    for piece in (b"x" * (size - 1), b"x"):
        connection.data_received(piece)
        reads.append(client.reads)
    assert reads == [False, True]
    connection.connection_lost(None)
    await settled()
    # A request that was sent ahead waits, and so does what comes after it.
    connection, client = connect(AsgiServer(application, max_body_bytes=size))
    connection.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
    connection.data_received(b"x" * size + QUESTION)
    assert not client.reads
    connection.connection_lost(None)


class _Unread:
    """Does not wait until its client has read the answer, which is complete."""

    def __init__(self) -> None:
        self.client: PlayedClient | None = None

    async def __call__(self, _: Any, __: Any, send: Any) -> None:
        await send(_START)
        if self.client is not None:
            self.client.stalls = True
        sending = asyncio.create_task(send(_BODY))
        await asyncio.sleep(0)
        sending.cancel()


async def _sends(send: Any) -> None:
    await send(_START)
    await send(_BODY)


async def test_an_answer_that_is_read_during_a_stop() -> None:
    """Its connection does not wait for another request."""
    application = _Unread()
    server = AsgiServer(application)
    connection, client = connect(server)
    application.client = client
    connection.data_received(QUESTION)
    await settled()
    assert (client.statuses, client.ended) == ([b"200"], "")
    stopping = asyncio.create_task(server.stop(60))
    await settled()
    client.stalls = False
    connection.resume_writing()
    assert (client.ended, server.idle) == ("closed", {})
    connection.connection_lost(None)
    await stopping


async def test_an_answer_that_is_read_before_the_end_of_the_body() -> None:
    """The rest of the body is still dropped, and the next request answered."""
    application = _Unread()
    connection, client = connect(AsgiServer(application, max_body_bytes=10))
    application.client = client
    connection.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabc")
    await settled()
    application.client, client.stalls = None, False
    connection.resume_writing()
    connection.data_received(b"def" + QUESTION)
    await settled()
    assert (client.answers, client.ended) == (2, "")
    connection.connection_lost(None)


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


@pytest.mark.parametrize(("request_", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_old_client_needs_no_length_of_what_has_no_body(request_: str, status: int) -> None:
    """Without one, HTTP/1.0 knows where such an answer ends."""

    async def application(_: Any, __: Any, send: Any) -> None:
        await send({**_START, "status": status, "headers": []})
        await send({**_BODY, "body": b""})

    connection, client = connect(AsgiServer(application))
    connection.data_received(f"{request_} / HTTP/1.0\r\n\r\n".encode())
    await settled()
    assert client.written.startswith(b"HTTP/1.1 %d" % status)
    assert client.ended == "closed"
    connection.connection_lost(None)


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
