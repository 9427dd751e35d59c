"""Calls of the OpenID provider over HTTP.

Mechanism: as calls of webhooks, each has a connection of its own (`authsvc.net.checked_connection`).

Bound: 64 KiB of an answer, and `_AT_ONCE` calls at a time; others wait. The time is bounded by the caller.

Failure: ProviderUnavailable. Its message has no part of a request or an answer.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import httpcore

from authsvc.net.checked_connection import NETWORK_ERRORS, USER_AGENT, TooLargeError, exchange
from authsvc.net.listen_address import ListenAddress
from authsvc.net.resolver import Resolver
from authsvc.telemetry.current_call import outgoing_headers
from authsvc.web.console.oidc.failure import ProviderUnavailable

_AT_ONCE = 4


class HttpAnswer(NamedTuple):
    """A status, and a whole body."""

    status: int
    body: bytes


def is_allowed(url: str) -> bool:
    """Return whether what a provider names may be called: https://, or http:// on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and ListenAddress(host, 0).is_loopback)


class HttpClient:
    """Calls the provider."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Take the context of TLS, if it is not that of the system."""
        self._tls = tls
        self._resolve = Resolver()
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def get(self, url: str, headers: Mapping[str, str] = {}) -> HttpAnswer:
        """Return the answer to a GET. Raises ProviderUnavailable."""
        return await self._call("GET", url, headers, None)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        """Return the answer to a POST. Raises ProviderUnavailable."""
        return await self._call("POST", url, headers, body)

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> HttpAnswer:
        if not is_allowed(url):
            raise ProviderUnavailable("the provider names an address that is not https://")
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        length = {} if body is None else {"content-length": str(len(body))}
        request = httpcore.Request(
            method,
            httpcore.URL(
                scheme=parts.scheme,
                host=host,
                port=port,
                target=f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}",
            ),
            headers=[
                ("host", parts.netloc),
                ("connection", "close"),
                ("user-agent", USER_AGENT),
                ("accept", "application/json"),
                *length.items(),
                *outgoing_headers(),
                *headers.items(),
            ],
            content=body,
        )
        async with self._free:
            try:
                return await self._exchange(request, host, port)
            except TooLargeError:
                raise ProviderUnavailable(f"an answer of {host} is larger than 64 KiB") from None
            except NETWORK_ERRORS as error:
                raise ProviderUnavailable(f"{host} cannot be called: {type(error).__name__}") from None

    async def _exchange(self, request: httpcore.Request, host: str, port: int) -> HttpAnswer:
        addresses = await self._resolve(host, port)
        if not addresses:
            raise ProviderUnavailable(f"{host} does not resolve")
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        async with exchange(request, addresses, self._tls) as response:
            return HttpAnswer(response.status, await response.aread())
