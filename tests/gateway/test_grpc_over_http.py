"""gRPC clients behind proxies that ask over HTTP: they derive the code from the HTTP status."""

from functools import reduce
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from authsvc.gateway.access import REWRITING
from authsvc.gateway.identity import NAMES
from tests.conftest import Clock, serving
from tests.e2e.process import free_port
from tests.gateway.conftest import key, new_directory, protected
from tests.gateway.proxies import uncommented
from tests.gateway.upstream import serving_grpc

_SERVICE = "grpc.health.v1.Health"
_NGINX = ["upstream app_grpc {", "listen 127.0.0.1:8081 http2;", "location /orders.v1.OrderService/ {"]


def _nginx(text: str, listen: int, port: int) -> str:
    """Enable the lines for gRPC."""
    text = reduce(uncommented, _NGINX, text)
    for old, new in (("8081", str(listen)), ("8001", str(port)), ("orders.v1.OrderService", _SERVICE)):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def _caddy(text: str, listen: int, port: int) -> str:
    """Make the protected upstream one that serves gRPC, on a second port, and require a scope."""
    begin, app, rest = text.partition("(app) {\n\treverse_proxy ")
    assert app
    _, _, rest = rest.partition(" ")
    text = f"{begin}{app}h2c://127.0.0.1:{port} {rest}"
    address = text[text.index("\nhttp://:") :].partition(" ")[0]
    return text.replace(address, f"{address}, http://:{listen}").replace(
        "path /orders /orders/*", f"path /orders /{_SERVICE}/*"
    )


@pytest.mark.parametrize(("proxy", "serves"), [("nginx", _nginx), ("caddy", _caddy)])
async def test_a_client_of_grpc(
    proxy: str, serves: Any, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:
    """It gets the code; the application gets the caller's identity, and no identity headers of the client."""
    listen = free_port()
    async with (
        serving_grpc() as (port, seen),
        serving(database_url, clock, http_listen="127.0.0.1:0") as service,
        protected(
            service,
            proxy,
            checkout,
            new_directory(reachable_dir),
            change=lambda text: serves(text, listen, port),
        ),
        grpc.aio.insecure_channel(f"127.0.0.1:{listen}") as channel,
    ):
        good, key_id = await key(service, "orders:write")
        other, _ = await key(service, "orders:read")
        stub: Any = HealthStub(channel)

        async def call(*metadata: tuple[str, str]) -> grpc.StatusCode:
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=30)
            except grpc.aio.AioRpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            return grpc.StatusCode.OK

        spoofed = [(name, "evil") for name in (*NAMES, *REWRITING)]
        assert await call(("authorization", f"Bearer {good}"), *spoofed) is grpc.StatusCode.OK
        told = {name: value for name in (*NAMES, *REWRITING) if (value := seen[0].get(name))}
        assert told == {
            "x-auth-key-id": key_id,
            "x-auth-owner-id": "acme",
            "x-auth-scopes": "orders:write",
            "x-auth-credential-type": "key",
        }
        assert await call(("x-api-key", good)) is grpc.StatusCode.OK
        assert good not in str(seen)
        assert await call() is grpc.StatusCode.UNAUTHENTICATED
        assert await call(("x-api-key", other)) is grpc.StatusCode.PERMISSION_DENIED
        # No credential can be checked when the proxy's own is invalid.
        await service.admin.BatchRevokeKeys(owner_id="authsvc", allow_last_administrator=True)
        failed = grpc.StatusCode.UNAVAILABLE if proxy == "nginx" else grpc.StatusCode.UNKNOWN
        assert await call(("x-api-key", good)) is failed
        assert len(seen) == 2
