"""What the real proxies allow, and with which identity: every case, proxy and version of HTTP."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from authsvc.gateway.access import REWRITING
from authsvc.gateway.identity import NAMES
from authsvc.process.devpg import DevPostgres
from tests.conftest import Clock, new_database, serving
from tests.gateway.client import Headers, get_http1, read_answer, request_head
from tests.gateway.conftest import QUERIES, Behind, bearer, key, new_directory, protected
from tests.gateway.upstream import Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

_VERSIONS = ("1.1", "2")
# Only Envoy asks over gRPC, and so over each transport.
_COMBINATIONS = [
    *((proxy, version, "lane") for proxy in ("envoy", "nginx", "caddy") for version in _VERSIONS),
    *(("envoy", version, "grpcio") for version in _VERSIONS),
]


@dataclass
class World:
    """A proxy, and credentials in every state."""

    behind: Behind
    good: str
    good_id: str
    other: str
    expired: str
    revoked: str
    session: str
    session_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_COMBINATIONS, ids="-".join)
async def world(
    request: pytest.FixtureRequest, postgres: DevPostgres, reachable_dir: Path, checkout: Path
) -> AsyncIterator[World]:
    proxy, version, transport = request.param
    directory = new_directory(reachable_dir)
    clock = Clock()
    async with (
        new_database(postgres, f"matrix_{proxy}_{version[0]}_{transport}") as url,
        serving(url, clock, http_listen="127.0.0.1:0", transport=transport) as service,
        protected(service, proxy, checkout, directory, http2=version == "2") as behind,
    ):
        good, good_id = await key(service, "orders:read")
        other, _ = await key(service, "orders:read", owner_id="other")
        revoked, revoked_id = await key(service, "orders:read")
        await service.admin.RevokeKey(key_id=revoked_id)
        expired = await service.admin.CreateKey(
            owner_id="acme", display_name="x", scopes=["orders:read"], ttl=Duration(seconds=60)
        )
        opened = await service.admin.CreateSession(owner_id="alice", scopes=["orders:read"])
        clock.advance(seconds=61)
        yield World(
            behind,
            good,
            good_id,
            other,
            expired.key_string,
            revoked,
            opened.session_token,
            opened.session.session_id,
        )


def _basic(text: str, encoding: str = "utf-8") -> Headers:
    return [("authorization", f"Basic {b64encode(text.encode(encoding)).decode()}")]


def _told(seen: Seen | None) -> dict[str, list[str]]:
    """Return what the upstream would believe about the caller, however it reads header names."""
    assert seen is not None
    return {name: values for name in NAMES if (values := seen.all(name))}


_Headers = Callable[[World], Headers]

_SPOOFED: list[tuple[str, str | bytes]] = [(name, "evil") for name in NAMES]

_ADMITTED: dict[str, _Headers] = {
    "bearer": lambda w: bearer(w.good),
    "bearer in capitals": lambda w: [("authorization", f"BEARER  {w.good}")],
    "basic, as the user": lambda w: _basic(f"{w.good}:"),
    "basic, as the password": lambda w: _basic(f"api:{w.good}"),
    "basic, not encoded": lambda w: [("authorization", f"Basic {w.good}")],
    "x-api-key": lambda w: [("x-api-key", w.good)],
    "the same in two places": lambda w: [*bearer(w.good), ("x-api-key", w.good)],
    "basic, with a user in Latin-1": lambda w: _basic(f"J\xfcrgen:{w.good}", "latin-1"),
    "basic, with a newline": lambda w: _basic(f"api:{w.good}\n"),
    "an empty one beside it": lambda w: [*bearer(w.good), ("x-api-key", "")],
    "an empty bearer beside it": lambda w: [("authorization", "Bearer "), ("x-api-key", w.good)],
    "identity made up": lambda w: [*bearer(w.good), *_SPOOFED],
    "identity made up, twice": lambda w: [*_SPOOFED, *bearer(w.good), *_SPOOFED],
    "identity made up, empty": lambda w: [*bearer(w.good), *((name, "") for name in NAMES)],
    "another scheme beside it": lambda w: [("authorization", "Digest x"), ("x-api-key", w.good)],
}


@pytest.mark.parametrize("case", _ADMITTED)
async def test_a_good_key_is_let_through(world: World, case: str) -> None:  # rule 20
    """The upstream gets the owner, and neither headers made up by the client nor the credential."""
    answer, seen = await world.behind.send("/orders/1?x=y", _ADMITTED[case](world))
    assert (answer.status, json.loads(answer.body)) == (200, {"target": "/orders/1?x=y"})
    assert _told(seen) == {
        "x-auth-key-id": [world.good_id],
        "x-auth-owner-id": ["acme"],
        "x-auth-scopes": ["orders:read"],
        "x-auth-credential-type": ["key"],
    }
    assert world.good not in str(seen)


# Some proxies refuse these, and no proxy may trust them.
_TRICKS: dict[str, _Headers] = {
    "identity in capitals": lambda w: [(name.upper(), "evil") for name in NAMES],
    "identity with underscores": lambda w: [(name.replace("-", "_"), "evil") for name in NAMES],
    "identity half with underscores": lambda w: [(name.replace("-", "_", 1), "evil") for name in NAMES],
    "identity in capitals with underscores": lambda w: [
        (name.replace("-", "_").upper(), "evil") for name in NAMES
    ],
    "identity not in ASCII": lambda w: [(name, b"\xff\xfe\xc3\xa9") for name in NAMES],
    "identity with a space": lambda w: [(f"{name} ", "evil") for name in NAMES],
    "identity folded": lambda w: [("x-a", b"b\r\n " + name.encode() + b": evil") for name in NAMES],
    "identity behind a lone newline": lambda w: [("x-a", b"b\nx-auth-owner-id: evil")],
    "identity behind a NUL": lambda w: [("x-a", b"b\0x-auth-owner-id: evil")],
    "identity named by Connection": lambda w: [("connection", ", ".join(NAMES)), *_SPOOFED],
    "question's headers": lambda w: [
        ("x-forwarded-uri", "/healthz"),
        ("x-forwarded-method", "POST"),
        ("x-authsvc-key", w.other),
        ("x-original-url", "/healthz"),
    ],
}


@pytest.mark.parametrize("case", _TRICKS)
async def test_what_a_client_smuggles_is_not_believed(world: World, case: str) -> None:
    """A request with tricks in its headers is refused, or has the identity of its credential and no more."""
    answer, seen = await world.behind.send("/orders/1", [*bearer(world.good), *_TRICKS[case](world)])
    if seen is None:
        assert answer.status in (0, 400, 401, 403)
    else:
        assert answer.status == 200
        told = _told(seen)
        assert told.get("x-auth-key-id") == [world.good_id]
        assert told == {
            "x-auth-key-id": [world.good_id],
            "x-auth-owner-id": ["acme"],
            "x-auth-scopes": ["orders:read"],
            "x-auth-credential-type": ["key"],
        }


@pytest.mark.parametrize("target", ["/orders/1", "/other", "/healthz"])
@pytest.mark.parametrize("name", sorted(REWRITING))
async def test_no_header_makes_another_request_of_it(world: World, name: str, target: str) -> None:
    """Behind the proxy, a read does not become a write, and a path does not become another."""
    for sent in (name, name.replace("-", "_")):
        answer, seen = await world.behind.send(target, [*bearer(world.good), (sent, "DELETE")])
        assert (answer.status, seen is not None and seen.all(name)) == (200, [])


_REFUSED: dict[str, tuple[_Headers, int, str]] = {
    "none": (lambda w: [], 401, "CREDENTIAL_MISSING"),
    "expired": (lambda w: bearer(w.expired), 401, "CREDENTIAL_EXPIRED"),
    "revoked": (lambda w: bearer(w.revoked), 401, "CREDENTIAL_REVOKED"),
    "revoked, as basic": (lambda w: _basic(f"{w.revoked}:"), 401, "CREDENTIAL_REVOKED"),
    "unknown": (lambda w: bearer("authsvc_live_" + "0" * 63), 401, "CREDENTIAL_INVALID"),
    "wrong secret": (
        lambda w: bearer(w.good[:-9] + ("A" if w.good[-9] != "A" else "B") + w.good[-8:]),
        401,
        "CREDENTIAL_INVALID",
    ),
    "malformed": (lambda w: bearer("rubbish"), 401, "CREDENTIAL_INVALID"),
    "basic without a key": (lambda w: _basic("user:password"), 401, "CREDENTIAL_INVALID"),
    "basic that is no base64": (lambda w: [("authorization", "Basic !")], 401, "CREDENTIAL_INVALID"),
    "empty": (lambda w: [("x-api-key", "")], 401, "CREDENTIAL_MISSING"),
    "an empty bearer": (lambda w: [("authorization", "Bearer ")], 401, "CREDENTIAL_MISSING"),
    "an empty basic": (lambda w: _basic(":"), 401, "CREDENTIAL_MISSING"),
    "another scheme": (lambda w: [("authorization", f"Token {w.good}")], 401, "CREDENTIAL_MISSING"),
    "two different": (lambda w: [*bearer(w.good), ("x-api-key", w.other)], 401, "CREDENTIAL_AMBIGUOUS"),
    "two different, one behind a tab": (
        lambda w: [("authorization", f"Bearer\t{w.other}"), ("x-api-key", w.good)],
        401,
        "CREDENTIAL_AMBIGUOUS",
    ),
    "two in basic": (lambda w: _basic(f"{w.good}:{w.other}"), 401, "CREDENTIAL_AMBIGUOUS"),
    "a password of others beside it": (
        lambda w: [*_basic("staging:password"), ("x-api-key", w.good)],
        401,
        "CREDENTIAL_AMBIGUOUS",
    ),
    "a good and a bad one": (lambda w: [*bearer("x"), ("x-api-key", w.good)], 401, "CREDENTIAL_AMBIGUOUS"),
    "x-api-key twice": (lambda w: [("x-api-key", w.good)] * 2, 401, "CREDENTIAL_AMBIGUOUS"),
}


@pytest.mark.parametrize("case", _REFUSED)
async def test_what_is_not_good_is_refused(world: World, case: str) -> None:  # rule 20
    """The client gets the reason (RFC 6750, RFC 9457), and the upstream gets nothing."""
    headers, status, reason = _REFUSED[case]
    answer, seen = await world.behind.send("/orders/1", headers(world))
    assert (answer.status, seen) == (status, None)
    assert json.loads(answer.body)["reason"] == reason
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith('Bearer realm="authsvc"')


# Refused by the proxy itself or by us; the answers differ.
_HURTFUL: dict[str, _Headers] = {
    "authorization twice": lambda w: [*bearer(w.good), *bearer(w.good)],
    "authorization twice, a bad one first": lambda w: [*bearer("x"), *bearer(w.good)],
    "authorization twice, another scheme first": lambda w: [("authorization", "Digest x"), *bearer(w.good)],
    "oversized": lambda w: [*bearer(w.good), ("x-large", "x" * 80_000)],
    "oversized credential": lambda w: bearer(w.good + "x" * 80_000),
    "long credential": lambda w: bearer(w.good + "x" * 5_000),
    "not ASCII": lambda w: [("authorization", b"Bearer \xff\xfe" + w.good.encode())],
    "not ASCII behind it": lambda w: [("authorization", b"Bearer " + w.good.encode() + b"\xc3\xa9")],
    "NUL in it": lambda w: [("authorization", b"Bearer " + w.good.encode() + b"\0")],
    "underscores": lambda w: [("x_api_key", w.good)],
    "name with a space": lambda w: [("authorization ", f"Bearer {w.good}")],
}


@pytest.mark.parametrize("case", _HURTFUL)
async def test_what_is_no_proper_request_is_refused(world: World, case: str) -> None:
    """Nothing of it reaches the upstream, and no answer is 200."""
    answer, seen = await world.behind.send("/orders/1", _HURTFUL[case](world))
    assert seen is None
    # 0: the connection was closed. nginx 494 shows as 400.
    assert answer.status in (0, 400, 401, 431), answer


async def test_a_session_is_let_through(world: World) -> None:
    """The upstream gets the session, and no key."""
    spoofed: Headers = [("x-auth-key-id", "key_evil")]
    answer, seen = await world.behind.send("/orders/1", [*bearer(world.session), *spoofed])
    assert answer.status == 200
    assert _told(seen) == {
        "x-auth-session-id": [world.session_id],
        "x-auth-owner-id": ["alice"],
        "x-auth-scopes": ["orders:read"],
        "x-auth-credential-type": ["session"],
    }


@pytest.mark.parametrize("method", ["POST", "DELETE", "post", "OPTIONS"])
async def test_a_scope_that_is_missing_is_named(world: World, method: str) -> None:  # rules 20, 22
    """403, with the scope that the route requires; reading does not imply writing."""
    answer, seen = await world.behind.send("/orders/1", bearer(world.good), method)
    if answer.status == 400:
        return  # nginx refuses methods in lower case
    assert (answer.status, seen) == (403, None)
    assert json.loads(answer.body)["missing_scopes"] == ["orders:write"]
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert 'scope="orders:write"' in answer.headers["www-authenticate"]


async def test_the_same_key_where_no_scope_is_needed(world: World) -> None:
    """Each route decides for itself (CVE-2021-32701)."""
    for _ in range(2):
        assert (await world.behind.send("/other", bearer(world.good), "POST"))[0].status == 200
        assert (await world.behind.send("/orders/1", bearer(world.good), "POST"))[0].status == 403
        assert (await world.behind.send("/orders/1", bearer(world.good)))[0].status == 200


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_is_the_clients_own(world: World, query: str) -> None:
    """On each kind of route it reaches the upstream, and neither adds nor removes a scope."""
    for path, headers in (
        ("/other", bearer(world.good)),
        ("/orders", bearer(world.good)),
        ("/orders/1", bearer(world.good)),
        ("/healthz", []),
    ):
        answer, seen = await world.behind.send(path + query, headers)
        assert (answer.status, seen is not None and seen.target) == (200, path + query)
    answer, seen = await world.behind.send(f"/orders/1{query}", bearer(world.good), "POST")
    assert (answer.status, seen) == (403, None)
    assert json.loads(answer.body)["missing_scopes"] == ["orders:write"]


async def test_what_is_public_needs_nothing(world: World) -> None:
    """The upstream gets no identity, whatever headers the client sends."""
    for headers in ([], bearer(world.revoked), _SPOOFED, [(n.replace("-", "_"), "evil") for n in NAMES]):
        answer, seen = await world.behind.send("/healthz", headers)
        assert answer.status == 200
        assert _told(seen) == {}


@pytest.mark.parametrize(
    "target",
    [
        "/healthz/../orders/1",
        "/healthz/..%2forders/1",
        "/healthz%2f..%2forders/1",
        "/healthz;/../orders/1",
        "/healthz/%2e%2e/orders/1",
        "/healthz\\..\\orders\\1",
        "//healthz",
        "/HEALTHZ",
        "/healthz/",
        "/healthz/x",
        "/healthz%00",
        "/healthz%2F",
        "/orders/1#/healthz",
        "/./orders/1?/healthz",
        "//orders/1",
        "/Orders/1",
    ],
)
async def test_no_other_path_is_public(world: World, target: str) -> None:
    """However the path is written, only the public path can be reached without a credential."""
    _, seen = await world.behind.send(target)
    # A path that was normalized to the public path is that path.
    assert seen is None or seen.target == "/healthz"


async def test_a_last_use_has_the_clients_address(world: World) -> None:  # rule 23
    """It is not what the client claims as its address."""
    await world.behind.send("/orders/1", [*bearer(world.good), ("x-forwarded-for", "203.0.113.9")])
    await world.behind.service.flush()
    shown = await world.behind.service.admin.GetKey(key_id=world.good_id)
    assert shown.last_use_ip == "127.0.0.1"


async def test_a_body_reaches_the_upstream(world: World) -> None:
    """It bypasses the checker, complete; over HTTP/1.1 in either framing, and with Expect."""
    if world.behind.get is not get_http1:
        return
    for headers, body in (
        ([("content-length", "5")], b"hello"),
        ([("transfer-encoding", "chunked")], b"5\r\nhello\r\n0\r\n\r\n"),
        ([("content-length", "5"), ("expect", "100-continue")], b"hello"),
    ):
        sent: Headers = [*bearer(world.good), *headers]
        answer = await get_http1(world.behind.proxy.port, "/other", sent, "POST", body)
        assert answer.status == 200, (headers, answer)
        assert world.behind.upstream.seen[-1].body == b"hello"


async def test_an_upgrade_is_checked(world: World) -> None:
    """A request for another protocol is checked like any other, and so is the next one."""
    if world.behind.get is not get_http1:
        return
    upgrade: Headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]
    for _ in range(3):
        answer, seen = await world.behind.send("/other", upgrade)
        assert (answer.status, seen) == (401, None)
        answer, seen = await world.behind.send("/other", [*upgrade, *bearer(world.good)])
        assert answer.status == 200


@pytest.mark.parametrize("length", [5_000, 25_000])
async def test_much_that_is_proper(world: World, length: int) -> None:
    """Long cookies and headers within the limits of proxies are accepted."""
    headers: Headers = [*bearer(world.good), ("cookie", "a=" + "b" * length), ("x-long", "c" * length)]
    answer, seen = await world.behind.send("/orders/1", headers)
    assert answer.status == 200
    assert seen is not None
    assert len(seen.all("cookie")[0]) == length + 2


async def test_headers_near_the_bound(world: World) -> None:
    """56 KB are accepted; a larger request is an error of the client, and not reported as an outage."""
    for length in (56_000, 60_000, 62_000, 65_000, 65_400, 71_500):
        half = "c" * (length // 2)
        headers: Headers = [*bearer(world.good), ("x-long", half), ("x-longer", half)]
        answer, _ = await world.behind.send("/orders/1", headers)
        expected = {56_000: {200}, 71_500: {0, 400, 431}}.get(length, {0, 200, 400, 431})
        assert answer.status in expected, length


@pytest.mark.parametrize("length", [100, 1_500, 7_000, 20_000])
async def test_requests_ahead(world: World, length: int) -> None:
    """Pipelined requests are answered in order, with heads of any length."""
    if world.behind.get is not get_http1:
        return
    head = request_head("/other", [*bearer(world.good), ("x-long", "c" * length)])
    reader, writer = await asyncio.open_connection("127.0.0.1", world.behind.proxy.port)
    writer.write(head * 40)
    assert [(await read_answer(reader)).status for _ in range(40)] == [200] * 40
    writer.close()
