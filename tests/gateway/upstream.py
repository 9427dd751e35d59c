"""The protected upstreams: servers that report the requests that reached them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from tests.gateway import websocket


@dataclass
class Seen:
    """A request as received by the upstream; header names in lower case, values in order."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Return the values of a header, or of headers that CGI takes for it."""
        return [value for known, value in self.headers if known.lower().replace("_", "-") == name]


@dataclass
class Upstream:
    """The running server, and what it has received."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    #: Whether it switches to any requested protocol, and what it received after that.
    agrees: bool = False
    tunnelled: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request on a connection with 200 and the target as JSON."""
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
                if self.agrees and (asked := seen.all("upgrade") or seen.method == "CONNECT"):
                    await self._switch(seen, asked if isinstance(asked, list) else [], reader, writer)
                    return
                body = b"" if method == "HEAD" else json.dumps({"target": target}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _switch(
        self, seen: Seen, protocols: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Accept the upgrade, and echo what arrives: frames of a WebSocket, or bytes of another protocol."""
        if not protocols:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            protocol = protocols[0].partition(",")[0]
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n")
            writer.write(b"upgrade: %s\r\n" % protocol.encode("latin-1"))
            for key in seen.all("sec-websocket-key"):
                writer.write(b"sec-websocket-accept: %s\r\n" % websocket.accept_of(key).encode())
            writer.write(b"\r\n")
        if protocols == ["websocket"] and seen.all("sec-websocket-key"):
            while True:
                writer.write(websocket.frame(await websocket.read_frame(reader), masked=False))
        while data := await reader.read(65536):
            self.tunnelled += data
            writer.write(data)


@asynccontextmanager
async def serving() -> AsyncIterator[Upstream]:
    """Run the server during the block."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        if hasattr(server, "close_clients"):
            server.close_clients()


class _Calls(grpc.aio.ServerInterceptor):
    """Records the metadata of each call."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        self.seen.append({name: str(value) for name, value in details.invocation_metadata})
        return await continuation(details)


@asynccontextmanager
async def serving_grpc() -> AsyncIterator[tuple[int, list[dict[str, str]]]]:
    """Serve gRPC's own health service; yield the port, and the metadata of the calls received."""
    calls = _Calls()
    server = grpc.aio.server(interceptors=[calls])
    add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, calls.seen
    finally:
        await server.stop(None)


async def _body(reader: asyncio.StreamReader, seen: Seen) -> bytes:
    if not seen.all("transfer-encoding"):
        return await reader.readexactly(int((seen.all("content-length") or ["0"])[0]))
    body = b""
    while length := int(await reader.readline(), 16):
        body += await reader.readexactly(length)
        await reader.readline()
    await reader.readline()
    return body
