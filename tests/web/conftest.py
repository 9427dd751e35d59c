"""A service that is also called over HTTP."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import Client, Clock, Service, serving
from tests.rpc.conftest import authority, files
from tests.web.http_channel import Http, HttpChannel, http_client

__all__ = ["authority", "files"]


@dataclass
class Web:
    """A running service and a client of it over HTTP."""

    service: Service
    http: Http

    def channel(self, *given: str, **options: Any) -> Any:
        """Return a client that is used like a channel of gRPC."""
        return HttpChannel(self.http, *given, **options)

    def as_caller(self, key_string: str | None, **headers: str) -> Client:
        """Return a client that calls with this key string over HTTP."""
        return Client(self.channel(), key_string, **headers)

    @property
    def admin(self) -> Client:
        return self.as_caller(self.service.admin_key)


@pytest.fixture
async def web(database_url: str, clock: Clock) -> AsyncIterator[Web]:
    async with (
        serving(database_url, clock, web_listen="127.0.0.1:0") as service,
        http_client(f"http://127.0.0.1:{service.app.web_port}") as http,
    ):
        yield Web(service, http)
