"""A proxy that is set in the environment, like `http_proxy`, and that records its clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

#: The variables that gRPC for Python reads, and those that curl, pip and others read.
_NAMES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy")
#: The variables for exceptions.
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


@dataclass
class EnvironmentProxy:
    """The proxy, and the first bytes of each connection."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read, and close the connection."""
        self.heard.append(await reader.read(65536))
        writer.close()


@asynccontextmanager
async def named(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EnvironmentProxy]:
    """Run one, and set it in the environment of this process and of those that it starts."""
    proxy = EnvironmentProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    for name in (*_EXCEPTIONS, *map(str.upper, _EXCEPTIONS)):
        monkeypatch.delenv(name, raising=False)
    for name in (*_NAMES, *map(str.upper, _NAMES)):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    try:
        yield proxy
    finally:
        server.close()
