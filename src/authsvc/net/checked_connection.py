"""One connection to another server: to addresses that were checked, and with a bound for what is read."""

import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

#: The most bytes of a response that are read. A response head that is larger is an error.
MAX_RESPONSE_BYTES = 64 * 1024
# Seconds for one of several addresses, so that the next one gets its turn.
_ADDRESS_SECONDS = 4.0
_MAX_ADDRESSES = 4


class TooLargeError(Exception):
    """A response head is larger than `MAX_RESPONSE_BYTES`."""


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
