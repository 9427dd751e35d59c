"""One connection to another server: to addresses that were checked, and with a bound for what is read.

TLS verifies the certificate for the name. Redirects are not followed, and proxies of the
environment are not used.
"""

import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore

from authsvc import __version__

USER_AGENT = f"authsvc/{__version__}"

#: The most bytes of a response that are read. A response head that is larger is an error.
MAX_RESPONSE_BYTES = 64 * 1024
# Seconds for one of several addresses, so that the next one gets its turn.
_ADDRESS_SECONDS = 4.0
_MAX_ADDRESSES = 4


class TooLargeError(Exception):
    """A response head is larger than `MAX_RESPONSE_BYTES`."""


#: What the network and the other server may cause, beside TooLargeError.
NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
)


@asynccontextmanager
async def exchange(
    request: httpcore.Request, addresses: Sequence[str], tls: ssl.SSLContext
) -> AsyncIterator[httpcore.Response]:
    """Send a request on a connection of its own, which is closed afterwards; yield the response.

    `tls` is used for https://, from TLS 1.2 on.

    Raises one of `NETWORK_ERRORS`, or TooLargeError, also when the response is read.
    """
    tls.minimum_version = max(tls.minimum_version, ssl.TLSVersion.TLSv1_2)
    backend = CheckedAddresses(addresses)
    connection = httpcore.AsyncHTTPConnection(request.url.origin, ssl_context=tls, network_backend=backend)
    try:
        yield await connection.handle_async_request(request)
    finally:
        await backend.aclose()


class CheckedAddresses(httpcore.AsyncNetworkBackend):
    """Connects to one of these addresses, whatever the name is. No name is looked up."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses[:_MAX_ADDRESSES]
        self._backend = httpcore.AnyIOBackend()
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that accepts. `host` is not used."""
        *others, last = self._addresses
        for address in others:
            try:
                self._stream = await self._backend.connect_tcp(address, port, timeout=_ADDRESS_SECONDS)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
            return _Bounded(self._stream)
        self._stream = await self._backend.connect_tcp(last, port, timeout=timeout)
        return _Bounded(self._stream)

    async def aclose(self) -> None:
        """Close what was connected to, also if TLS was not established or the response was not read."""
        if self._stream is not None:
            await self._stream.aclose()


class _Bounded(httpcore.AsyncNetworkStream):
    """A stream of which at most `MAX_RESPONSE_BYTES` are read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MAX_RESPONSE_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left <= 0:
            raise TooLargeError
        data = await self._stream.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Bounded(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
