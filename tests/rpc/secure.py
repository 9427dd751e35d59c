"""A service that uses TLS, and its clients."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from authsvc.rpc.tls import Tls
from tests.certificates import Authority, Pair
from tests.conftest import Client, Service


@dataclass
class Files:
    """The files that the settings name."""

    directory: Path

    @property
    def cert(self) -> Path:
        return self.directory / "tls.pem"

    @property
    def key(self) -> Path:
        return self.directory / "tls.key"

    @property
    def client_ca(self) -> Path:
        return self.directory / "clients.pem"

    def write(self, pair: Pair) -> None:
        pair.write(self.cert, self.key)


@dataclass
class Secure:
    """A service that uses TLS, and its clients."""

    service: Service
    authority: Authority
    files: Files

    @property
    def tls(self) -> Tls:
        assert self.service.app.tls is not None
        return self.service.app.tls

    @asynccontextmanager
    async def channel(
        self, pair: Pair | None = None, *, roots: bytes = b""
    ) -> AsyncIterator[grpc.aio.Channel]:
        """Yield a channel that shares no connections with others."""
        shown = (pair.key, pair.cert) if pair else (None, None)
        credentials = grpc.ssl_channel_credentials(roots or self.authority.cert, *shown)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(self.service.address, credentials, options) as channel:
            yield channel

    async def verify(self, channel: grpc.aio.Channel) -> None:
        """Make one call, which must succeed."""
        key = self.service.admin_key
        assert (await Client(channel, key).VerifyKey(key_string=key)).valid

    async def verify_anew(self, pair: Pair | None = None, *, roots: bytes = b"") -> None:
        """Make one call over a new connection."""
        async with self.channel(pair, roots=roots) as channel:
            await self.verify(channel)

    async def shown(self) -> bytes:
        """Return the server certificate of a new connection, as PEM."""
        host, _, port = self.service.address.rpartition(":")
        pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)), timeout=10)
        return pem.encode()
