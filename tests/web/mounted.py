"""Endpoints of HTTP on a running service, served by uvicorn."""

from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from authsvc.app.entrance import bounds_of, entrance_of
from authsvc.app.services import services_of
from authsvc.config.settings import Settings
from authsvc.model.address import Proxies
from authsvc.rpc.balance import Balance
from authsvc.verify.clock import Stopwatch, boottime
from authsvc.web.rpcs import Client, Rpcs
from tests.client.webapp import serving_asgi
from tests.conftest import NO_PAUSES, Service

App = Callable[..., Any]
_OF_CALLS = ("authorization", "x-forwarded-for", "x-request-id")


def rpcs_of(service: Service, stopwatch: Stopwatch = boottime, **settings: Any) -> Rpcs:
    """Return the RPCs of a service, for calls in this process."""
    app, configuration = service.app, Settings(**settings)
    entrance = entrance_of(app, configuration, stopwatch, Proxies(), NO_PAUSES)
    bounds = bounds_of(configuration, stopwatch, Balance(None, 0, stopwatch))
    return Rpcs(services_of(app), entrance, bounds)


def client_of(scope: MutableMapping[str, Any], headers: Sequence[tuple[str, str]]) -> Client:
    """Return who sends a request."""
    host, port = scope["client"]
    return Client(f"ipv4:{host}:{port}", [(name, value) for name, value in headers if name in _OF_CALLS])


@asynccontextmanager
async def mounted(endpoints: Mapping[str, App]) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve ASGI applications by their paths, and yield a client."""

    async def route(scope: Any, receive: Any, send: Any) -> None:
        await endpoints[scope["path"]](scope, receive, send)

    async with (
        serving_asgi(route, lifespan="off") as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        yield client
