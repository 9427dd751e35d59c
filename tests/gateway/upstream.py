"""What the proxies protect: a server that tells what reached it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Seen:
    """A request as the upstream got it; header names in lower case, values in their order."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Return the values of a header, or of what CGI takes for the same."""
        return [value for known, value in self.headers if known.lower().replace("_", "-") == name]


@dataclass
class Upstream:
    """The running server, and what it has got so far."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer 200 to whatever comes on a connection, with the target as JSON."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")[:-2]
                method, target, _ = first.split(" ")
                headers = [
                    (name, value.strip()) for name, _, value in (line.partition(":") for line in lines)
                ]
                seen = Seen(method, target, headers)
                seen.body = await _body(reader, seen)
                self.seen.append(seen)
                body = b"" if method == "HEAD" else json.dumps({"target": target}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Upstream]:
    """Run the server while the block runs."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        if hasattr(server, "close_clients"):
            server.close_clients()


async def _body(reader: asyncio.StreamReader, seen: Seen) -> bytes:
    if not seen.all("transfer-encoding"):
        return await reader.readexactly(int((seen.all("content-length") or ["0"])[0]))
    body = b""
    while length := int(await reader.readline(), 16):
        body += await reader.readexactly(length)
        await reader.readline()
    await reader.readline()
    return body
