"""The check over HTTP, called directly; and its server with hostile clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from authsvc.gateway.identity import NAMES
from authsvc.net.http_connection import Connection
from authsvc.net.http_server import MAX_HELD_BYTES, Call, HttpServer, Reply
from authsvc.net.listen_address import ListenAddress
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
    ],
)
async def test_scopes_in_the_question(http: Service, ask: Ask, query: str, status: int) -> None:
    """All of them are required; a mistake in the proxy's configuration allows nothing."""
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


# The server.


@pytest.fixture
async def server() -> AsyncIterator[tuple[HttpServer, int]]:
    async def answer(call: Call) -> Reply:
        if call.target == "/fault":
            raise RuntimeError("a fault")
        if call.target == "/unsendable":
            return Reply(200, [("x", "a\r\nb")])
        return Reply(200, [("x-target", call.target)], "body")

    running = HttpServer(answer)
    port = await running.start(ListenAddress("127.0.0.1", 0))
    yield running, port
    await running.stop(0)


async def _exchange(port: int, data: bytes) -> bytes:
    """Send bytes and then an end of stream, and return everything received until the server disconnects."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


class _Client(asyncio.Transport):
    """The client's end of a connection; it reads only when told to, and records what it received."""

    def __init__(self) -> None:
        super().__init__()
        self.answers, self.written = 0, b""
        self.reads = True  # by the server
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        self.answers += bytes(data).count(b"HTTP/1.1 200")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = high, low

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)


def _connect(server: HttpServer) -> tuple[Connection, _Client]:
    connection, client = Connection(server), _Client()
    connection.connection_made(client)
    return connection, client


async def _settled(connection: Connection) -> None:
    """Return when the connection has no more answers to send."""
    while connection._answering is not None:
        await asyncio.wait([connection._answering])


_QUESTION = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
_HOST = b"host: x\r\n"
_LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /a HTTP/1.1\r\n" + _HOST + b"content-length: 3\r\n\r\nabc", b"413"),
        (b"POST /a HTTP/1.1\r\n" + _HOST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b"413"),
        # The proxy forwards the length of the client's body, without the body.
        (b"POST /a HTTP/1.1\r\n" + _HOST + b"content-length: 3\r\n\r\n", b"413"),
        (b"HEAD /a HTTP/1.1\r\n" + _HOST + b"content-length: 3\r\n\r\n", b"413"),
        (b"GET /a HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + _HOST + _HOST + b"\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + _HOST + b"x-y : z\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + _HOST + b"x: a\0b\r\n\r\n", b"400"),
        (
            b"GET /a HTTP/1.1\r\n"
            + _HOST
            + b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"200",
        ),
        (b"GET /a HTTP/1.1\r\n" + _HOST + b"content-length: 0\r\ncontent-length: 1\r\n\r\n", b"400"),
        (b"GET /a b HTTP/1.1\r\n" + _HOST + b"\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100 + b"\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"GET /a HTTP/1.1\r\n" + _HOST + b"x: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * 70_000, b"431"),
    ],
)
async def test_what_is_no_proper_question(server: tuple[HttpServer, int], data: bytes, status: bytes) -> None:
    """It is refused and the connection closed, so that the bytes after it are not read as a request."""
    waits = status == b"431" or data.endswith(b"content-length: 3\r\n\r\n")
    answer = await _exchange(server[1], data + (b"" if waits else _LAST))
    assert answer[9:12] == status
    if status != b"200":
        assert b"/last" not in answer


async def test_questions_one_after_the_other(server: tuple[HttpServer, int]) -> None:
    """On one connection, even if the next one arrives before the answer."""
    first = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await _exchange(server[1], b"".join(first % number for number in range(50)) + _LAST)
    targets = [line for line in answer.split(b"\r\n") if line.startswith(b"x-target")]
    assert targets == [b"x-target: /%d" % number for number in range(50)] + [b"x-target: /last"]


async def test_a_fault_is_500(server: tuple[HttpServer, int]) -> None:
    """And the server continues."""
    assert (await get_http1(server[1], "/fault")).status == 500
    assert (await get_http1(server[1], "/unsendable")).status == 0
    assert (await get_http1(server[1], "/")).status == 200


async def test_a_stop_lets_answers_end() -> None:
    """Idle connections are closed soon, others after their answer; new ones are refused."""
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def answer(call: Call) -> Reply:
        if call.target == "/slow":
            asked.set()
            await go_on.wait()
        return Reply(200)

    server = HttpServer(answer)
    port = await server.start(ListenAddress("127.0.0.1", 0))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /quick HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    slow = asyncio.create_task(get_http1(port, "/slow"))
    await asked.wait()
    stopping = asyncio.create_task(server.stop(30))
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionError):
        await get_http1(port, "/late")
    assert not stopping.done()
    go_on.set()
    assert (await slow).headers["connection"] == "close"
    await stopping


async def test_a_stop_does_not_wait_for_ever() -> None:
    """Requests that take longer than the grace period are aborted."""
    asked = asyncio.Event()

    async def answer(_: Call) -> Reply:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    server = HttpServer(answer)
    port = await server.start(ListenAddress("127.0.0.1", 0))
    asking = asyncio.create_task(get_http1(port, "/"))
    await asked.wait()
    await server.stop(0)
    assert (await asking).status == 0


async def test_who_says_nothing_is_not_waited_for(
    server: tuple[HttpServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete head and an unused connection are closed after a timeout."""
    monkeypatch.setattr("authsvc.net.http_connection._HEAD_SECONDS", 0.0)
    assert await _exchange(server[1], b"GET / HTTP/1.1\r\nhost:") == b""
    assert await _exchange(server[1], b"") == b""


async def test_a_whole_head_is_answered(
    server: tuple[HttpServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty chunked body that does not end is 408 after the timeout."""
    monkeypatch.setattr("authsvc.net.http_connection._HEAD_SECONDS", 0.0)
    connection, client = _connect(server[0])
    connection.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    connection._check_deadline()
    assert (client.written[9:12], client.ended) == (b"408", "closed")
    connection._check_deadline()
    assert client.ended == "aborted"
    connection.connection_lost(None)


async def test_a_body_is_told_to_the_operator(
    server: tuple[HttpServer, int], caplog: pytest.LogCaptureFixture
) -> None:
    """The answer and the log say what the proxy must not send."""
    answer = await _exchange(server[1], b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n")
    assert b"not to send Content-Length" in answer.partition(b"\r\n\r\n")[2]
    assert "not to send Content-Length" in caplog.text


_FIRST = b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n"


async def _opened(port: int, request: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection, after its answer if it has a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if request:
        writer.write(request)
        await reader.readuntil(b"body")
    return reader, writer


async def test_no_more_connections_than_there_is_room_for(server: tuple[HttpServer, int]) -> None:
    """A new one replaces the one that has waited longest, first of those that were never answered."""
    http, port = server
    http.max_connections = 3
    async with asyncio.timeout(30):
        proxy = await _opened(port, _FIRST)
        silent = [await _opened(port), await _opened(port)]
        another = await _opened(port, _FIRST)
        assert await silent[0][0].read() == b""
        late = await _opened(port, _FIRST)
        assert await silent[1][0].read() == b""
        assert http.closed == {"room": 2, "full": 0}
        # All three were answered, this one last.
        proxy[1].write(_FIRST)
        await proxy[0].readuntil(b"body")
        assert (await _exchange(port, _LAST)).startswith(b"HTTP/1.1 200")
        assert await another[0].read() == b""
        for reader, writer in (proxy, late):
            writer.write(_LAST)
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
    for _, writer in (proxy, *silent, another, late):
        writer.close()


async def test_no_request_is_interrupted_to_make_room(server: tuple[HttpServer, int]) -> None:
    """When every connection has a request in progress, a further one is closed immediately, and counted."""
    http, port = server
    http.max_connections = 1
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: Call) -> Reply:
        asked.set()
        await go_on.wait()
        return Reply(200, body="body")

    http.answer = answer
    async with asyncio.timeout(30):
        busy = asyncio.create_task(_exchange(port, _LAST))
        await asked.wait()
        assert await _exchange(port, _LAST) == b""
        assert http.closed == {"room": 0, "full": 1}
        go_on.set()
        assert (await busy).startswith(b"HTTP/1.1 200")


async def test_who_does_not_read_is_not_answered_on_and_on(server: tuple[HttpServer, int]) -> None:
    """The next request waits until the answers are read, and the server reads no further meanwhile."""
    connection, client = _connect(server[0])
    connection.data_received(_QUESTION * 100)
    connection.pause_writing()
    await _settled(connection)
    assert (client.answers, client.reads) == (1, False)
    assert client.limits == (16 * 1024, None)
    connection.resume_writing()
    await _settled(connection)
    assert (client.answers, client.reads, client.ended) == (100, True, "")
    connection.connection_lost(None)


async def test_who_does_not_read_is_not_waited_for(
    server: tuple[HttpServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection with unread answers is aborted after a timeout, and the rest is dropped."""
    for question in (_QUESTION, _LAST):
        connection, client = _connect(server[0])
        connection.data_received(question)
        connection.pause_writing()
        with monkeypatch.context() as patch:
            patch.setattr("authsvc.net.http_connection._HEAD_SECONDS", 0.0)
            await _settled(connection)
        assert client.ended == ("closed" if question is _LAST else "")
        connection._check_deadline()
        assert client.ended == "aborted"
        connection.connection_lost(None)


async def test_what_is_sent_ahead_is_bounded(
    server: tuple[HttpServer, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Only a head's size is buffered behind a request; beyond it, the connection closes after the answer."""
    connection, client = _connect(server[0])
    connection.data_received(_QUESTION * (65536 // len(_QUESTION)))
    assert client.ended == ""
    assert server[0].held_bytes == len(_QUESTION) * (65536 // len(_QUESTION) - 1)
    connection.data_received(_QUESTION)
    connection.data_received(_QUESTION)
    connection.data_received(_QUESTION)
    assert server[0].held_bytes == len(connection._unread) == 0
    assert client.ended == ""
    await _settled(connection)
    assert (client.answers, client.ended) == (1, "closed")
    assert "could not be sent" not in caplog.text
    connection.connection_lost(None)


async def test_what_all_send_ahead_is_bounded(server: tuple[HttpServer, int]) -> None:
    """Above the total bound, only connections that hold more than an equal share are refused."""
    half = b"GET / HTTP/1.1\r\nx: "
    large = half + b"y" * (60_000 - len(half))
    floods = [_connect(server[0]) for _ in range(MAX_HELD_BYTES // 60_000 + 10)]
    for connection, _ in floods:
        connection.data_received(large)
        assert server[0].held_bytes <= MAX_HELD_BYTES
    assert [client.ended for _, client in floods[-10:]] == ["closed"] * 10
    assert {client.ended for _, client in floods[:-10]} == {""}
    usual, client = _connect(server[0])
    usual.data_received(half + b"y" * 4000 + b"\r\nhost: x\r\n\r\n")
    await _settled(usual)
    assert (client.answers, client.ended) == (1, "")
    for connection, _ in [*floods, (usual, client)]:
        connection.connection_lost(None)
    assert server[0].held_bytes == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x:\r\n" * 300 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x:\r\n" * 300,
        b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x:\r\n" * 300,
    ],
    ids=["whole", "begun", "trailers"],
)
async def test_very_many_lines_are_refused(server: tuple[HttpServer, int], data: bytes) -> None:
    """Each takes time to parse, so they are counted first."""
    assert (await _exchange(server[1], data))[9:12] == b"431"


async def test_a_head_may_come_in_pieces(server: tuple[HttpServer, int]) -> None:
    """Wherever it is split, also within the line ends after it."""
    connection, client = _connect(server[0])
    for place in range(1, len(_QUESTION)):
        connection.data_received(_QUESTION[:place])
        connection.data_received(_QUESTION[place:])
        await _settled(connection)
        assert client.answers == place
    connection.connection_lost(None)
