"""The check over HTTP, called directly; and its server with hostile clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from authsvc.gateway.identity import NAMES
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service, serving
from tests.gateway.client import Answer, Headers, get_http1
from tests.gateway.conftest import ASKS, bearer, key
from tests.gateway.test_check import BEHIND, Envoy

_ABOUT: list[tuple[str, str | bytes]] = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/orders/1?x=y")]

Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
async def http(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    async with serving(database_url, clock, http_listen="127.0.0.1:0") as service:
        yield service


@pytest.fixture
async def ask(http: Service) -> Ask:
    own, _ = await key(http, *ASKS, owner_id="authsvc")

    async def send(headers: Headers = (), target: str = "/check", about: Headers = _ABOUT) -> Answer:
        return await get_http1(http.app.http_port, target, [("X-Authsvc-Key", own), *about, *headers])

    return send


async def test_a_good_key_and_who_it_is(http: Service, ask: Ask) -> None:
    """All headers are present, also empty ones, so a proxy that copies them replaces those of the client."""
    text, key_id = await key(http, "orders:read")
    for _ in ("cold", "warm"):
        answer = await ask([*bearer(text), ("X-Auth-Session-Id", "evil")], "/check?scope=orders:read")
        assert (answer.status, answer.body) == (200, b"")
        assert {name: answer.headers[name] for name in NAMES} == {
            "x-auth-key-id": key_id,
            "x-auth-session-id": "",
            "x-auth-owner-id": "acme",
            "x-auth-scopes": "orders:read",
            "x-auth-credential-type": "key",
        }


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?scope=a", 200),
        ("?scope=a&scope=b", 200),
        ("?scope=a%20b", 200),
        ("?scope=a,b", 200),
        ("?scope=a%20c", 403),
        ("?scope=a&scope=c", 403),
        ("?scopes=a", 500),
        ("?scope=", 500),
        ("?scope", 500),
        ("?", 200),
        ("?a", 500),
        ("?scope=A", 500),
        ("?scope=a&scope=", 500),
        ("?any_of_scopes=a", 200),
        ("?any_of_scopes=c+a", 200),
        ("?any_of_scopes=c&any_of_scopes=b", 200),
        ("?any_of_scopes=c", 403),
        ("?any_of_scopes=c,d", 403),
        ("?scope=a&any_of_scopes=b+c", 200),
        ("?scope=c&any_of_scopes=a", 403),
        ("?scope=a&any_of_scopes=c", 403),
        ("?any_of_scopes=", 500),
        ("?any_of_scopes=A", 500),
        ("?any_of_scope=a", 500),
    ],
)
async def test_scopes_in_the_question(http: Service, ask: Ask, query: str, status: int) -> None:
    """All of one list, and one of the other; a mistake in the proxy's configuration allows nothing."""
    text, _ = await key(http, "a", "b")
    assert (await ask(bearer(text), f"/check{query}")).status == status


@pytest.mark.parametrize(
    ("query", "remedy"),
    [("x=y", "the query of its client; in a Caddyfile write uri /check? "), ("z", "write /check?scope=")],
)
async def test_a_query_that_the_proxy_did_not_mean(
    http: Service, ask: Ask, caplog: pytest.LogCaptureFixture, query: str, remedy: str
) -> None:
    """The log has the remedy; a client's query is not logged."""
    assert (await ask([], f"/check?{query}")).status == 500
    assert remedy in caplog.text
    assert "x=y" not in caplog.text


@pytest.mark.parametrize("shown", [1, 25, 45, 60])
async def test_a_credential_in_a_query_is_not_logged_in_part(
    http: Service, ask: Ask, caplog: pytest.LogCaptureFixture, shown: int
) -> None:
    """Where the log truncates: a part of a credential would not be recognized, and so not be redacted."""
    text, _ = await key(http)
    before = f"{'z' * (199 - shown)}-"
    assert (await ask([], f"/check?{before}{text}")).status == 500
    assert f"'{before}… ({len(text)} more characters)'" in caplog.text


@pytest.mark.parametrize(("address", "forwarded", "kept"), BEHIND)
async def test_a_client_behind_more_proxies(
    database_url: str, clock: Clock, address: str, forwarded: str, kept: str
) -> None:  # rule 23
    """The last address connected to the proxy that asks; if it is trusted, its header counts."""
    trusted = (ip_network("10.0.0.0/8"),)
    async with serving(database_url, clock, http_listen="127.0.0.1:0", trusted_proxies=trusted) as service:
        own, _ = await key(service, *ASKS, owner_id="authsvc")
        text, key_id = await key(service)
        hops = forwarded if forwarded.endswith(address) else f"{forwarded}, {address}"
        headers = [("X-Authsvc-Key", own), *_ABOUT, *bearer(text), ("X-Forwarded-For", hops)]
        assert (await get_http1(service.app.http_port, "/check", headers)).status == 200
        await service.flush()
        assert (await service.admin.GetKey(key_id=key_id)).last_use_ip == kept


async def test_the_device_of_a_session(http: Service, ask: Ask, clock: Clock) -> None:
    """User agents are UTF-8 or else Latin-1; those of gRPC libraries are ignored; client hints count."""
    opened = await http.admin.CreateSession(owner_id="alice")

    async def device(*headers: tuple[str, str]) -> resources_pb2.Device:
        clock.advance(seconds=1)
        assert (await ask([*bearer(opened.session_token), *headers])).status == 200
        await http.flush()
        found: resources_pb2.Session = await http.admin.GetSession(session_id=opened.session.session_id)
        return found.device

    assert (await device(("user-agent", "Gerät/1.0".encode().decode("latin-1")))).user_agent == "Gerät/1.0"
    assert (await device(("user-agent", "Gerät/2.0"))).user_agent == "Gerät/2.0"  # sent as Latin-1
    assert (await device(("user-agent", "grpc-python/1.80"))).user_agent == "Gerät/2.0"
    windows = ("user-agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0")
    hints = [("sec-ch-ua-platform", '"Windows"'), ("sec-ch-ua-platform-version", '"15.0.0"')]
    found = await device(windows, *hints)
    assert (found.os, found.os_version) == ("Windows", "11")


async def test_a_refusal_for_people_and_programs(http: Service, ask: Ask) -> None:
    """The problem is in the body, and in a header for proxies that do not forward a body."""
    text, _ = await key(http)
    answer = await ask(bearer(text), "/check?scope=a")
    assert answer.status == 403
    problem = {
        "type": "urn:authsvc:problem:scope-missing",
        "title": "A scope is missing",
        "status": 403,
        "detail": "This request requires the scope a; use a credential that has it.",
        "reason": "SCOPE_MISSING",
        "missing_scopes": ["a"],
    }
    assert json.loads(answer.body) == json.loads(answer.headers["x-authsvc-problem"]) == problem
    assert answer.headers["cache-control"] == "no-store"
    missing = await ask()
    assert (missing.status, missing.headers["www-authenticate"]) == (401, 'Bearer realm="authsvc"')


async def test_a_proxy_that_is_set_up_wrongly(
    http: Service, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets 500, since the client's credential is not the cause. The log has the cause."""
    text, _ = await key(http, "full_access", owner_id="authsvc")
    weak, _ = await key(http, "keys:verify", owner_id="authsvc")
    good = [*_ABOUT, *bearer(text)]
    port = http.app.http_port
    for own in ([], [("x-authsvc-key", "x")], [("x-authsvc-key", weak)], [("x-authsvc-key", text)] * 2):
        assert (await get_http1(port, "/check", [*own, *good])).status == 500
    uri, method = ("x-forwarded-uri", "/healthz"), ("x-forwarded-method", "GET")
    for about in (
        [],
        [uri],
        [method],
        [method, uri, uri],
        [method, method, uri],
        [("x-forwarded-uri", ""), method],
    ):
        assert (await ask(bearer(text), about=about)).status == 500, about
    assert "is misconfigured" in caplog.text
    assert (await ask(bearer(text))).status == 200


async def test_what_cannot_be_known_is_503(http: Service, ask: Ask) -> None:
    """Also when the proxy's own key cannot be checked; the worker is then not ready."""
    port = http.app.http_port
    assert (await get_http1(port, "/readyz")).status == 200
    http.app.lease.end("this is a test")
    answer = await ask(bearer("x"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    ready = await get_http1(port, "/readyz")
    assert (ready.status, ready.body) == (503, b"this is a test")
    assert (await get_http1(port, "/healthz")).status == 200


async def test_the_cookies_without_the_credential(database_url: str, clock: Clock) -> None:
    """For the upstream; cookies without a credential are unchanged."""
    async with serving(
        database_url, clock, http_listen="127.0.0.1:0", gateway_credentials="cookie:sid,bearer"
    ) as http:
        own, _ = await key(http, *ASKS, owner_id="authsvc")
        text, _ = await key(http)
        about: Headers = [("x-authsvc-key", own), *_ABOUT]
        for headers in ([("cookie", f"a=b; sid={text}; c=d")], [*bearer(text), ("cookie", "a=b; c=d")]):
            answer = await get_http1(http.app.http_port, "/check", [*about, *headers])
            assert (answer.status, answer.headers["x-auth-cookie"]) == (200, "a=b; c=d")


@pytest.mark.parametrize("header", ["x_auth_owner_id", "X-Auth_Key_Id", "X-Http-Method-Override"])
async def test_what_the_proxy_would_not_take_out(
    database_url: str, clock: Clock, tmp_path: Path, header: str
) -> None:
    """A proxy that asks over HTTP forwards such a header, so the request is refused, also if it is public."""
    file = tmp_path / "routes.toml"
    await asyncio.to_thread(file.write_text, '[[route]]\npath = "/**"\npublic = true\n')
    async with serving(database_url, clock, http_listen="127.0.0.1:0", routes=file) as http:
        own, _ = await key(http, *ASKS, owner_id="authsvc")
        about: Headers = [("x-authsvc-key", own), *_ABOUT]
        port = http.app.http_port
        assert (await get_http1(port, "/check", about)).status == 200
        assert (await get_http1(port, "/check", [*about, (header, "x")])).status == 403


async def test_anybody_may_ask_where_that_is_said(database_url: str, clock: Clock) -> None:
    """With AUTHSVC_ANONYMOUS_SCOPES, over HTTP and over gRPC; an invalid key is still refused."""
    async with serving(
        database_url, clock, http_listen="127.0.0.1:0", anonymous_scopes=",".join(ASKS)
    ) as http:
        text, _ = await key(http)
        port = http.app.http_port
        asked: Headers = [*_ABOUT, *bearer(text)]
        assert (await get_http1(port, "/check", asked)).status == 200
        assert (await get_http1(port, "/check", [("x-authsvc-key", "x"), *asked])).status == 500
        envoy = Envoy(http, "")
        answer = await envoy.ask({"authorization": f"Bearer {text}"})
        assert answer.HasField("ok_response")


async def test_other_paths_and_methods(http: Service) -> None:
    """They are not served."""
    port = http.app.http_port
    assert (await get_http1(port, "/")).status == 404
    assert (await get_http1(port, "/check/")).status == 404
    assert (await get_http1(port, "/metrics")).status == 404
    assert (await get_http1(port, "/check", method="POST")).status == 405
    assert (await get_http1(port, "/healthz", method="HEAD")).status == 200
