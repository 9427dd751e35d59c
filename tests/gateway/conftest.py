"""A service, a proxy that asks it, and something to protect."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Clock, Service, serving
from tests.gateway import proxies, upstream
from tests.gateway.client import Answer, Headers, get_http1, get_http2
from tests.gateway.proxies import Proxy
from tests.gateway.upstream import Seen, Upstream


@dataclass
class Behind:
    """What is behind a proxy, and the client before it."""

    service: Service
    upstream: Upstream
    proxy: Proxy
    get: Callable[..., Awaitable[Answer]] = get_http1

    async def send(
        self, target: str = "/", headers: Headers = (), method: str = "GET"
    ) -> tuple[Answer, Seen | None]:
        """Send a request; return what the client saw, and the upstream if it got there."""
        before = len(self.upstream.seen)
        answer = await self.get(self.proxy.port, target, headers, method)
        seen = self.upstream.seen[before:]
        return answer, seen[-1] if seen else None

    async def key(self, *scopes: str, owner_id: str = "acme") -> tuple[str, str]:
        """Mint a key; return its string and its id."""
        made = await self.service.admin.CreateKey(owner_id=owner_id, display_name="x", scopes=scopes)
        return made.key_string, made.key.key_id


def bearer(text: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {text}")]


@asynccontextmanager
async def protected(service: Service, name: str, checkout: Path, directory: Path) -> AsyncIterator[Behind]:
    """Run a proxy that asks the service before it lets anything through."""
    made = await service.admin.CreateKey(
        owner_id="authsvc", display_name="gateway", scopes=["keys:verify", "sessions:verify"]
    )
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(upstream.serving())
        asked = {"50051": service.app.port} if name == "envoy" else {"50080": service.app.http_port}
        ports = {"8000": app.port, **asked}
        proxy = await stack.enter_async_context(
            proxies.running(checkout, name, directory, ports, made.key_string)
        )
        behind = Behind(service, app, proxy)
        # Envoy first has to find out that authsvc is well.
        while (await get_http1(proxy.port, "/")).status == 503:
            pass
        yield behind
