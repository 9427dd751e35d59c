"""A proxy that the environment names, as `http_proxy` does, and that notes who comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

#: What gRPC for Python reads, and what curl, pip and others do.
_NAMES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy")
#: Where it reads of exceptions.
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


@dataclass
class EnvironmentProxy:
    """The proxy, and the first that each connection said."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear, and hang up."""
        self.heard.append(await reader.read(65536))
        writer.close()


@asynccontextmanager
async def named(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EnvironmentProxy]:
    """Run one, and name it in the environment of this process and of those that it starts."""
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
