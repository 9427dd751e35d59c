"""Fixtures for tests of gateways: a service, a proxy that asks it, and an upstream."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Service, eventually
from tests.gateway import proxies, upstream
from tests.gateway.client import Answer, Headers, get_http1, get_http2
from tests.gateway.proxies import Proxy
from tests.gateway.upstream import Seen, Upstream

ASKS = ["keys:verify", "sessions:verify"]
#: Queries that a client may send: neither proxies nor authsvc may act on them.
QUERIES = [
    "?",
    "?a=1",
    "?scope=orders:read",
    "?scope=orders:write",
    "?scope=orders:read&scope=orders:write",
    "?scope",
    "?scopes=NONE&scope=",
    "?a=/../b//;c=%2F%00%3B&x=1?y=2",
]


@dataclass
class Behind:
    """The upstream of a proxy, and a client in front of it."""

    service: Service
    upstream: Upstream
    proxy: Proxy
    get: Callable[[int, str, Headers, str], Awaitable[Answer]] = field(default=get_http1)

    async def send(
        self, target: str = "/", headers: Headers = (), method: str = "GET"
    ) -> tuple[Answer, Seen | None]:
        """Send a request; return the answer, and the request that reached the upstream, if any."""
        before = len(self.upstream.seen)
        answer = await self.get(self.proxy.port, target, headers, method)
        seen = self.upstream.seen[before:]
        return answer, seen[-1] if seen else None


def new_directory(below: Path) -> Path:
    """Return a directory for one proxy."""
    directory = Path(tempfile.mkdtemp(dir=below))
    # If started by root, nginx changes to another user.
    directory.chmod(0o755)
    return directory


def bearer(text: str) -> list[tuple[str, str | bytes]]:
    """Return the header that most clients use."""
    return [("authorization", f"Bearer {text}")]


async def key(service: Service, *scopes: str, owner_id: str = "acme") -> tuple[str, str]:
    """Create a key; return its string and its id."""
    made = await service.admin.CreateKey(owner_id=owner_id, display_name="x", scopes=scopes)
    return made.key_string, made.key.key_id


@asynccontextmanager
async def proxied(
    name: str,
    checkout: Path,
    directory: Path,
    own: str,
    ports: Mapping[str, int],
    *,
    http2: bool = False,
    path: str = "/",
    change: Callable[[str], str] = str,
) -> AsyncIterator[tuple[Upstream, Proxy]]:
    """Run a proxy in front of an upstream; wait until it refuses a path that needs a credential.

    `own` is its key; `ports` maps the ports of authsvc in the proxy's file to the actual ones.
    """
    try:
        proxies.program(checkout, name)
    except proxies.NoProxyError as error:
        pytest.skip(str(error))
    wanted = "50051" if name == "envoy" else "50080"
    async with upstream.serving() as app:
        given = {"8000": app.port, wanted: ports[wanted]}
        async with proxies.running(
            checkout, name, directory, given, own, http2=http2, change=change
        ) as proxy:
            get = get_http2 if http2 else get_http1
            # Envoy must first find authsvc healthy.
            await eventually(lambda: get(proxy.port, path), lambda answer: answer.status == 401)
            yield app, proxy


@asynccontextmanager
async def protected(
    service: Service,
    name: str,
    checkout: Path,
    directory: Path,
    *,
    http2: bool = False,
    path: str = "/",
    change: Callable[[str], str] = str,
) -> AsyncIterator[Behind]:
    """Run a proxy that asks the service about each request."""
    own, _ = await key(service, *ASKS, owner_id="authsvc")
    ports = {"50051": service.app.port, "50080": service.app.http_port}
    asking = proxied(name, checkout, directory, own, ports, http2=http2, path=path, change=change)
    async with asking as (app, proxy):
        yield Behind(service, app, proxy, get_http2 if http2 else get_http1)
