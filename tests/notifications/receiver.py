"""A receiver of webhooks: an HTTP/1.1 server on loopback, whose answers the test chooses."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.certificates import Pair


@dataclass(frozen=True)
class Request:
    """What arrived. The names of headers are in small letters."""

    line: str
    headers: dict[str, str]
    body: bytes
    peer: str


#: Answers a request, or does not; the connection is closed afterwards.
Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answering(status: int, headers: str = "", body: bytes = b"") -> Answer:
    """Return what answers with this status and these header lines, each of which ends in a line end."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


@dataclass
class Receiver:
    """What a receiver got, and how it answers."""

    answer: Answer = field(default_factory=lambda: answering(204))
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    #: The names that were asked for in TLS.
    names: list[str | None] = field(default_factory=list)
    open: int = 0

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                request = await _read(reader, writer)
                self.requests.append(request)
                await self.answer(request, writer)
        finally:
            self.open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Request(line, headers, body, writer.get_extra_info("peername")[0])


def server_context(pair: Pair, directory: Path) -> ssl.SSLContext:
    """Return the context of a server with this certificate."""
    pair.write(directory / "cert.pem", directory / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


@asynccontextmanager
async def receiving(
    answer: Answer | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Receiver]:
    """Run a receiver; without an `answer` it accepts everything."""
    receiver = Receiver() if answer is None else Receiver(answer)
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.names.append(name)
    tasks = set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, host, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
