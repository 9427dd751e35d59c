"""A server of ASGI applications under test, and its clients: on a socket, and played by the test."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from authsvc.net.asgi_connection import Connection
from authsvc.net.asgi_server import AsgiServer
from authsvc.net.http_message import Call, Reply

QUESTION = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HOST = b"host: x\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
FIRST = b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n"


async def answer(call: Call) -> Reply:
    """Answer with the target."""
    if call.target == "/fault":
        raise RuntimeError("a fault")
    if call.target == "/unsendable":
        return Reply(200, [("x", "a\r\nb")])
    return Reply(200, [("x-target", call.target)], "body")


async def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, and return everything received until the server disconnects."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def opened(port: int, request: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection, after its answer if it has a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if request:
        writer.write(request)
        await reader.readuntil(b"body")
    return reader, writer


class Application:
    """Answers with the body that it received, when it may; notes the scopes and how it ended."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.ends: list[str] = []
        self.reads = True
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.size = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.asked.set()
        try:
            body, more = b"", self.reads
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.ends.append("disconnect")
                    return
                body, more = body + message["body"], message["more_body"]
            await self.may_answer.wait()
            body = b"y" * self.size or body
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            self.ends.append("sent")
        except OSError:
            self.ends.append("gone")
            raise
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise


class PlayedClient(asyncio.Transport):
    """The client's end of a connection; while it `stalls` it reads nothing more. It records what it got."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.stalls = False
        self.reads = True  # by the server
        self.ended = ""
        self.connection: Connection | None = None

    @property
    def answers(self) -> int:
        return self.written.count(b"HTTP/1.1 200")

    @property
    def statuses(self) -> Sequence[bytes]:
        return [line[9:12] for line in self.written.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        if self.stalls and self.connection is not None:
            self.connection.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = high, low

    def get_write_buffer_size(self) -> int:
        return len(self.written) if self.stalls else 0

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)


def connect(server: AsgiServer) -> tuple[Connection, PlayedClient]:
    connection, client = Connection(server), PlayedClient()
    assert server.admit(connection)
    client.connection = connection
    connection.connection_made(client)
    return connection, client


async def settled() -> None:
    """Return when all that can go on without a client has."""
    for _ in range(2000):
        await asyncio.sleep(0)


@contextmanager
def too_late(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """Have deadlines of clients be over as soon as they are set: `HEAD`, `BODY`, `IDLE`, `READ`, `CLOSE`."""
    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(f"authsvc.net.asgi_connection._{name}_SECONDS", 0.0)
        yield
