"""On a connection through a proxy only an upgrade to WebSocket is possible, whatever the upstream accepts.

An upgraded connection is a tunnel: what is sent through it reaches the upstream unchecked, with identity
headers that the client may have made up.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from authsvc.process.devpg import DevPostgres
from tests.conftest import Clock, new_database, serving
from tests.gateway import websocket
from tests.gateway.client import Answer, Headers, ask_http2, get_then
from tests.gateway.conftest import QUERIES, Behind, bearer, key, new_directory, protected
from tests.gateway.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PROXIES = ("envoy", "nginx", "caddy")
_SMUGGLED = b"POST /orders HTTP/1.1\r\nhost: app.test\r\nx-auth-owner-id: evil\r\ncontent-length: 0\r\n\r\n"


@dataclass
class World:
    """A proxy in front of an upstream that accepts any protocol, a valid key, and one without scopes."""

    behind: Behind
    good: str
    other: str

    @property
    def port(self) -> int:
        return self.behind.proxy.port

    def upstream(self, *, agrees: bool = True) -> Upstream:
        """Return the upstream, with no requests recorded."""
        upstream = self.behind.upstream
        upstream.agrees, upstream.tunnelled = agrees, b""
        upstream.seen.clear()
        return upstream


@asynccontextmanager
async def _before_an_upstream(
    proxy: str, postgres: DevPostgres, reachable_dir: Path, checkout: Path, *, http2: bool
) -> AsyncIterator[World]:
    directory = new_directory(reachable_dir)
    async with (
        new_database(postgres, f"upgrade_{proxy}_{http2:d}") as url,
        serving(url, Clock(), http_listen="127.0.0.1:0") as service,
        protected(service, proxy, checkout, directory, http2=http2) as behind,
    ):
        good, _ = await key(service, "orders:read")
        other, _ = await key(service)
        yield World(behind, good, other)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_PROXIES)
async def world(
    request: pytest.FixtureRequest, postgres: DevPostgres, reachable_dir: Path, checkout: Path
) -> AsyncIterator[World]:
    """With HTTP/1.1."""
    async with _before_an_upstream(request.param, postgres, reachable_dir, checkout, http2=False) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_PROXIES)
async def world2(
    request: pytest.FixtureRequest, postgres: DevPostgres, reachable_dir: Path, checkout: Path
) -> AsyncIterator[World]:
    """With HTTP/2."""
    async with _before_an_upstream(request.param, postgres, reachable_dir, checkout, http2=True) as made:
        yield made


_H2_SETTINGS = urlsafe_b64encode(b"\0\3\0\0\0\x64\0\4\0\1\0\0").decode().rstrip("=")
_SETTINGS = ("http2-settings", _H2_SETTINGS)
_UPGRADE = ("connection", "upgrade")
_H2C: dict[str, Headers] = {
    "h2c": [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), _SETTINGS],
    "h2c in capitals": [("connection", "UPGRADE, HTTP2-SETTINGS"), ("upgrade", "H2C"), _SETTINGS],
    "h2c without settings": [_UPGRADE, ("upgrade", "h2c")],
    "h2c, Connection twice": [_UPGRADE, ("connection", "http2-settings"), ("upgrade", "h2c"), _SETTINGS],
}
_OTHERS: dict[str, Headers] = _H2C | {
    "settings alone": [("connection", "http2-settings"), _SETTINGS],
    "TLS": [_UPGRADE, ("upgrade", "TLS/1.0")],
    "made up": [_UPGRADE, ("upgrade", "foo")],
    "WebSocket in a version": [_UPGRADE, ("upgrade", "websocket/13")],
    "almost WebSocket": [_UPGRADE, ("upgrade", "websockets")],
    "a list, WebSocket first": [_UPGRADE, ("upgrade", "websocket, h2c")],
    "a list, WebSocket last": [_UPGRADE, ("upgrade", "h2c, websocket")],
    "twice, WebSocket first": [_UPGRADE, ("upgrade", "websocket"), ("upgrade", "h2c")],
    "twice, WebSocket last": [_UPGRADE, ("upgrade", "h2c"), ("upgrade", "websocket")],
    "twice, empty first": [_UPGRADE, ("upgrade", ""), ("upgrade", "h2c")],
    "empty": [_UPGRADE, ("upgrade", "")],
}


@pytest.mark.parametrize("target", ["/healthz", "/other", "/orders"])
@pytest.mark.parametrize("case", _OTHERS)
async def test_no_other_protocol_begins(world: World, case: str, target: str) -> None:
    """The request is refused, or served over HTTP/1.1; what follows is checked like any other request."""
    upstream = world.upstream()
    answer, _ = await get_then(world.port, target, [*bearer(world.good), *_OTHERS[case]], _SMUGGLED)
    assert answer.status != 0
    assert [seen.target for seen in upstream.seen if seen.method == "POST"] == []
    for seen in upstream.seen:
        assert seen.all("http2-settings") == []
        assert seen.all("upgrade") in ([], ["websocket"])
    if answer.status == 101:
        # nginx before 1.23 reads only the first of two headers: what it forwards is a WebSocket upgrade.
        assert (world.behind.proxy.name, case) == ("nginx", "twice, WebSocket first")
    else:
        assert upstream.tunnelled == b""


@pytest.mark.parametrize("case", _H2C)
async def test_who_offers_http2_is_served(world: World, case: str) -> None:
    """Java's HttpClient and `curl --http2` offer h2c with each request, and are answered over HTTP/1.1."""
    upstream = world.upstream()
    answer, _ = await get_then(world.port, "/orders/1", [*bearer(world.good), *_H2C[case]], _SMUGGLED)
    assert (answer.status, json.loads(answer.body)) == (200, {"target": "/orders/1"})
    assert [seen.target for seen in upstream.seen] == ["/orders/1"]


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "WEBSOCKET"])
@pytest.mark.parametrize("target", ["/orders/1", "/other"])
async def test_a_websocket_works(world: World, target: str, upgrade: str) -> None:
    """A handshake with a valid key is accepted, and frames are sent both ways."""
    upstream = world.upstream()
    async with websocket.opened(world.port, target, bearer(world.good), upgrade) as socket:
        for text in ("hello", "x" * 300, "y" * 70_000, "bye"):
            assert await socket.echoed(text) == text
    [seen] = upstream.seen
    assert seen.all("x-auth-owner-id") == ["acme"]
    assert seen.all("authorization") == []


@pytest.mark.parametrize("query", QUERIES)
async def test_the_query_of_a_handshake_is_the_clients_own(world: World, query: str) -> None:
    """It reaches the upstream, and neither adds nor removes a scope."""
    for path in ("/orders", "/orders/1", "/other"):
        upstream = world.upstream()
        async with websocket.opened(world.port, path + query, bearer(world.good), "websocket") as socket:
            assert await socket.echoed("hello") == "hello"
        assert [seen.target for seen in upstream.seen] == [path + query]
    for path, credential, status in (("/orders/1", world.other, 403), ("/other", "rubbish", 401)):
        upstream = world.upstream()
        asked: Headers = [*websocket.HANDSHAKE, *bearer(credential)]
        answer, _ = await get_then(world.port, path + query, asked, _SMUGGLED)
        assert (answer.status, upstream.seen, upstream.tunnelled) == (status, [], b"")


@pytest.mark.parametrize(("credential", "status"), [("", 401), ("rubbish", 401)])
async def test_a_websocket_needs_a_credential(world: World, credential: str, status: int) -> None:
    """Without a valid key, the upstream gets nothing."""
    upstream = world.upstream()
    shown = bearer(credential) if credential else []
    answer, _ = await get_then(world.port, "/orders/1", [*websocket.HANDSHAKE, *shown], _SMUGGLED)
    assert (answer.status, upstream.seen, upstream.tunnelled) == (status, [], b"")


async def test_a_websocket_that_is_declined_is_no_tunnel(world: World) -> None:
    """If the upstream's answer is not 101, the next bytes are a request like any other."""
    upstream = world.upstream(agrees=False)
    shown: Headers = [*websocket.HANDSHAKE, *bearer(world.good)]
    answer, _ = await get_then(world.port, "/orders/1", shown, _SMUGGLED)
    assert answer.status == 200
    assert [seen.target for seen in upstream.seen] == ["/orders/1"]


_CONNECT = ["app.test:80", "127.0.0.1:22", "/healthz", "/other", "/orders", "http://app.test/orders"]


@pytest.mark.parametrize("target", _CONNECT)
async def test_connect_is_refused(world: World, target: str) -> None:
    """It opens no tunnel, and the upstream gets nothing."""
    for headers in ([], bearer(world.good), [*bearer(world.good), *websocket.HANDSHAKE]):
        upstream = world.upstream()
        answer, _ = await get_then(world.port, target, headers, _SMUGGLED, "CONNECT")
        assert (upstream.seen, upstream.tunnelled) == ([], b"")
        assert 400 <= answer.status < 500


@pytest.mark.parametrize("protocol", ["", "websocket", "h2c", "connect-udp"])
@pytest.mark.parametrize("path", ["/healthz", "/orders"])
async def test_connect_is_refused_over_http2(world2: World, path: str, protocol: str) -> None:
    """Nor on a stream of HTTP/2: a plain CONNECT, or one with a protocol (RFC 8441)."""
    extended: Headers = [(":protocol", protocol), (":scheme", "http"), (":path", path)] if protocol else []
    headers: Headers = [
        (":method", "CONNECT"),
        (":authority", "app.test:80"),
        *extended,
        *bearer(world2.good),
    ]
    upstream = world2.upstream()
    answer: Answer = await ask_http2(world2.port, headers, end=False)
    assert (upstream.seen, upstream.tunnelled) == ([], b"")
    # 0: the stream or the connection was reset.
    assert answer.status == 0 or 400 <= answer.status < 500


@pytest.mark.parametrize("case", _OTHERS)
async def test_an_upgrade_has_no_place_in_http2(world2: World, case: str) -> None:
    """It is refused, or the header is removed."""
    upstream = world2.upstream()
    pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "app.test"), (":path", "/healthz")]
    answer = await ask_http2(world2.port, [*pseudo, *_OTHERS[case]])
    assert answer.status != 101
    assert [seen.all("upgrade") for seen in upstream.seen] in ([], [[]])
    assert upstream.tunnelled == b""
