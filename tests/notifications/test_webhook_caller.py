"""One call of a webhook: what is sent, to where, and what becomes of each answer."""

import asyncio
import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from authsvc.config.settings import Settings
from authsvc.model.address import network
from authsvc.model.webhook import Attempt, Outcome, SecretVersion, Webhook
from authsvc.net.checked_connection import MAX_RESPONSE_BYTES
from authsvc.net.resolver import MOST, Resolver
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.notifications.webhooks.trial import call_test
from tests.certificates import Authority
from tests.conftest import eventually
from tests.notifications.receiver import Answer, Receiver, Request, answering, receiving, server_context

_OLD_KEY, _NEW_KEY = b"1" * 32, b"2" * 32
_KEYS = SigningKeys([_NEW_KEY, _OLD_KEY])
_LOOPBACK = [network("127.0.0.0/8"), network("::1")]
_BODY = json.dumps({"type": "key.created", "timestamp": "2026-11-21T12:00:00Z", "data": {}}).encode()
_NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class _Now(datetime):
    """The clock of receivers."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return _NOW.astimezone(tz)


@pytest.fixture(autouse=True)
def _clock_of_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let them verify when the calls are made, however long the tests take."""
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _Now)


def _id_of(key: bytes) -> str:
    return SigningKeys([key]).current_id


def _webhook(url: str, *secrets: SecretVersion) -> Webhook:
    return Webhook(
        webhook_id="whk_1",
        owner_id="acme",
        url=url,
        create_time=_NOW,
        creator_id="key_1",
        update_time=_NOW,
        secrets=secrets or (SecretVersion(1, _KEYS.current_id),),
    )


class Names:
    """Resolves each name to these addresses; a name that is asked for again to the next ones."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        answer = next(self._answers, None)
        if answer is None:
            raise OSError("no such name")
        return list(answer)


def _caller(
    names: Names | None = None,
    *,
    networks: Sequence[str] = ("127.0.0.0/8", "::1"),
    keys: SigningKeys = _KEYS,
    tls: ssl.SSLContext | None = None,
    seconds: float = 15,
) -> WebhookCaller:
    rules = AddressRules([network(each) for each in networks])
    return WebhookCaller(keys, rules, lambda: _NOW, resolve=names, tls=tls, seconds=seconds)


async def _call(url: str, names: Names | None = None, **options: object) -> Attempt:
    return await _caller(names, **options).call(_webhook(url), "evt_1", _BODY)  # type: ignore[arg-type]


def _verifier(version: SecretVersion) -> Verifier:
    return Verifier(_KEYS.shown("whk_1", version))


async def test_what_is_sent() -> None:
    async with receiving() as receiver:
        attempt = await _call(f"http://127.0.0.1:{receiver.port}/hooks?a=%20b")
    assert attempt == Attempt(204)
    [request] = receiver.requests
    assert request.line == "POST /hooks?a=%20b HTTP/1.1"
    assert request.body == _BODY
    assert set(request.headers) == {
        *("host", "connection", "content-length", "content-type", "user-agent"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    }
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("authsvc/0.")
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["webhook-timestamp"] == str(int(_NOW.timestamp()))
    version = SecretVersion(1, _KEYS.current_id)
    assert _verifier(version).verify(request.body, request.headers) == json.loads(_BODY)
    with pytest.raises(WebhookVerificationError):
        _verifier(SecretVersion(2, _KEYS.current_id)).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        _verifier(version).verify(request.body + b" ", request.headers)


async def test_both_secrets_sign_during_a_rotation() -> None:
    """The newest first, each until it expires, also if they are made from different keys."""
    new = SecretVersion(2, _id_of(_NEW_KEY))
    old = SecretVersion(1, _id_of(_OLD_KEY), _NOW + timedelta(seconds=1))
    over = SecretVersion(0, _id_of(_OLD_KEY), _NOW)
    async with receiving() as receiver:
        webhook = _webhook(f"http://127.0.0.1:{receiver.port}/", new, old, over)
        assert (await _caller().call(webhook, "evt_1", _BODY)).error == ""
    [request] = receiver.requests
    for version in (new, old):
        _verifier(version).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        _verifier(over).verify(request.body, request.headers)
    first, second = request.headers["webhook-signature"].split(" ")
    assert _verifier(new).sign("evt_1", _NOW, _BODY.decode()) == first
    assert _verifier(old).sign("evt_1", _NOW, _BODY.decode()) == second


async def test_a_key_that_the_operator_no_longer_has() -> None:
    """Nothing is sent that nobody can check. One secret of two is enough."""
    gone = SecretVersion(2, "0123456789abcdef")
    async with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        attempt = await _caller().call(_webhook(url, gone), "evt_1", _BODY)
        assert attempt.outcome is Outcome.UNSIGNED
        assert "no longer has the key" in attempt.error
        assert receiver.connections == 0
        old = SecretVersion(1, _KEYS.current_id)
        assert (await _caller().call(_webhook(url, gone, old), "evt_1", _BODY)).error == ""
    _verifier(old).verify(receiver.requests[0].body, receiver.requests[0].headers)


async def test_an_ipv6_address() -> None:
    async with receiving(host="::1") as receiver:
        assert await _call(f"http://[::1]:{receiver.port}/") == Attempt(204)
    assert receiver.requests[0].headers["host"] == f"[::1]:{receiver.port}"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_a_success(status: int) -> None:
    async with receiving(answering(status)) as receiver:
        assert await _call(f"http://127.0.0.1:{receiver.port}/") == Attempt(status)


@pytest.mark.parametrize(
    ("status", "headers", "retry_after"),
    [
        (400, "", None),
        (401, "", None),
        (410, "", None),
        (429, "Retry-After: 120\r\n", timedelta(minutes=2)),
        (500, "", None),
        (503, "retry-after: 7\r\nretry-after: 9\r\n", timedelta(seconds=7)),
        (503, "Retry-After: soon\r\n", None),
        (599, "", None),
        (999, "", None),
    ],
)
async def test_other_statuses(status: int, headers: str, retry_after: timedelta | None) -> None:
    """The status is all of a response that is shown."""
    async with receiving(answering(status, headers, b"the internals")) as receiver:
        attempt = await _call(f"http://127.0.0.1:{receiver.port}/")
    assert attempt == Attempt(status, f"answered {status}", retry_after, Outcome.ANSWERED)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """Also not to an address that is allowed, and no byte gets there."""
    async with receiving() as private:
        location = f"Location: http://127.0.0.1:{private.port}/secret\r\n"
        async with receiving(answering(status, location)) as receiver:
            attempt = await _call(f"http://127.0.0.1:{receiver.port}/")
    assert (attempt.status, attempt.error) == (status, f"answered {status}; redirects are not followed")
    assert (receiver.connections, private.connections) == (1, 0)


# Where names must not lead, beside the listener that would see it.
_PRIVATE = [
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fe80::1%lo", "fd00:ec2::254", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::"),
    "2606:4700::5efe:7f00:1",
]


@pytest.mark.parametrize("address", _PRIVATE)
@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "beside_a_public_one"])
async def test_a_name_that_resolves_to_a_private_address(
    address: str, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused if any answer is, before a connection is made anywhere."""
    connected = _connections(monkeypatch)
    answers = ["8.8.8.8", address] if mixed else [address]
    async with receiving() as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        attempt = await _call(url, Names(answers), networks=())
        assert receiver.connections == 0
    assert connected == []
    assert attempt == Attempt(error="an address of the name is not allowed", outcome=Outcome.NOT_ALLOWED)


def _connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return where sockets connect to, from now on. None does."""
    connected: list[object] = []

    async def refuse(_loop: object, _socket: object, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    async def refused(_loop: object, _factory: object, host: object = None, *_: object, **__: object) -> None:
        connected.append(host)
        raise ConnectionRefusedError

    loop = type(asyncio.get_running_loop())
    monkeypatch.setattr(loop, "sock_connect", refuse)
    monkeypatch.setattr(loop, "create_connection", refused)
    return connected


async def test_the_listener_of_these_tests_sees_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = _connections(monkeypatch)
    attempt = await _call("https://hooks.example.com/", Names(["8.8.8.8", "1.1.1.1"]), networks=())
    assert attempt.error == "no connection could be made"
    assert connected == ["8.8.8.8", "1.1.1.1"]


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127。0。0。1/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:7f00:1]/",
        "http://127.0.0.1/",
        "https://user@127.0.0.1/",
        "file:///etc/passwd",
        "https://example.com\\@127.0.0.1/",
    ],
)
async def test_a_url_that_was_never_to_be_stored(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows may be older than a rule, or the networks of the operator have become fewer."""
    connected = _connections(monkeypatch)
    names = Names(["127.0.0.1"])
    attempt = await _call(url, names, networks=())
    assert attempt.outcome is Outcome.NOT_ALLOWED
    assert (names.asked, connected) == ([], [])


async def test_rebinding_between_two_look_ups() -> None:
    """The name is asked for once, and what was checked is what is connected to."""
    async with receiving() as receiver, receiving(host="127.0.0.2") as other:
        names = Names(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"])
        attempt = await _call(f"http://hooks.example.com:{receiver.port}/", names)
        assert attempt == Attempt(204)
        assert names.asked == [("hooks.example.com", receiver.port)]
        assert (receiver.connections, other.connections) == (1, 0)
        assert receiver.requests[0].headers["host"] == f"hooks.example.com:{receiver.port}"


async def test_plain_text_only_in_networks_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = _connections(monkeypatch)
    for answers in (["8.8.8.8"], ["127.0.0.1", "8.8.8.8"]):
        attempt = await _call("http://hooks.example.com/", Names(answers))
        assert attempt == Attempt(
            error="http:// is not allowed there; use https://", outcome=Outcome.NOT_ALLOWED
        )
    assert connected == []


async def test_another_address_if_the_first_does_not_accept() -> None:
    async with receiving() as receiver:
        names = Names(["127.0.0.9", "127.0.0.1"])
        assert await _call(f"http://hooks.example.com:{receiver.port}/", names) == Attempt(204)


async def test_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver, receiving() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert await _call(f"http://127.0.0.1:{receiver.port}/") == Attempt(204)
        assert (receiver.connections, proxy.connections) == (1, 0)


async def test_a_name_that_does_not_resolve() -> None:
    for names in (Names(), Names([])):
        attempt = await _call("https://hooks.example.com/", names)
        assert attempt == Attempt(error="the name does not resolve", outcome=Outcome.UNREACHABLE)


async def test_nobody_listens() -> None:
    async with receiving() as receiver:
        pass
    attempt = await _call(f"http://127.0.0.1:{receiver.port}/")
    assert attempt == Attempt(error="no connection could be made", outcome=Outcome.UNREACHABLE)


async def _hang(_: Request, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def _repeating(first: bytes, then: bytes) -> Answer:
    """Return what sends something, and then something else without an end."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(then)
            await writer.drain()
            await asyncio.sleep(0)

    return answer


def _trickling(sent: bytes) -> Answer:
    """Return what sends a byte, and then waits for longer than anybody does."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        for byte in sent:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.2)

    return answer


def _sending(answer: bytes) -> Answer:
    async def send(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return send


_LATE, _CLOSED = "no answer within 1 s", "the connection was closed before an answer"
_NOT_HTTP, _LARGE = "the answer is not HTTP/1.1", "the header of the answer is too large"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_hang, _LATE),
        (_trickling(b"HTTP/1.1 200 OK\r\n\r\n"), _LATE),
        (_repeating(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), _LARGE),
        (_repeating(b"HTTP/1.1 200 OK\r\na: ", b"b" * 4096), _LARGE),
        (_repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), _LARGE),
        (_repeating(b"", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"), _LARGE),
        (_sending(b""), _CLOSED),
        (_sending(b"HTTP/1.1 200"), _CLOSED),
        (_sending(b"HTTP/1.1 200 OK\r\na: b\r\n"), _CLOSED),
        (_sending(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), _NOT_HTTP),
        (_sending(b"HTTP/1.1 20x OK\r\n\r\n"), _NOT_HTTP),
        (_sending(b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n"), _NOT_HTTP),
        (_sending(b"\0" * 100 + b"\r\n\r\n"), _NOT_HTTP),
        (_sending(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), _NOT_HTTP),
    ],
)
async def test_receivers_that_do_not_answer_as_they_should(answer: Answer, error: str) -> None:
    async with receiving(answer) as receiver:
        attempt = await _call(f"http://127.0.0.1:{receiver.port}/", seconds=1 if error == _LATE else 15)
        assert attempt.error == error
        assert len(receiver.requests) == 1


async def test_the_body_is_not_read() -> None:
    """However large it is: the connection is closed, which the receiver notices."""
    sent = 0

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with receiving(answer) as receiver:
        assert await _call(f"http://127.0.0.1:{receiver.port}/") == Attempt(200)
        await eventually(lambda: _open(receiver), lambda count: count == 0)
    assert sent < 100 * MAX_RESPONSE_BYTES  # The buffers of the sockets, and not the whole body.


async def _open(receiver: Receiver) -> int:
    await asyncio.sleep(0)
    return receiver.open


@pytest.fixture
def authority() -> Authority:
    return Authority()


def _trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.cert.decode())


async def test_tls(authority: Authority, tmp_path: Path) -> None:
    """The certificate is that of the name, which is also asked for (SNI), at the address that was checked."""
    context = server_context(authority.issue(names=("hooks.example.com",), addresses=()), tmp_path)
    async with receiving(tls=context) as receiver:
        names = Names(["127.0.0.1"])
        url = f"https://Hooks.Example.com:{receiver.port}/"
        assert await _call(url, names, tls=_trusting(authority)) == Attempt(204)
        assert receiver.names == ["hooks.example.com"]
        assert names.asked == [("hooks.example.com", receiver.port)]


async def test_tls_of_an_address(authority: Authority, tmp_path: Path) -> None:
    context = server_context(authority.issue(names=(), addresses=("127.0.0.1",)), tmp_path)
    async with receiving(tls=context) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/"
        assert await _call(url, tls=_trusting(authority)) == Attempt(204)


@pytest.mark.parametrize(
    ("issued", "error"),
    [
        ({"names": ("other.example.com",)}, "the certificate is not valid for the name"),
        ({"names": (), "addresses": ("127.0.0.1",)}, "the certificate is not valid for the name"),
        (
            {"names": ("hooks.example.com",), "begins": -timedelta(days=90)},
            "the certificate has expired",
        ),
    ],
)
async def test_certificates_that_are_not_accepted(
    issued: dict[str, object], error: str, authority: Authority, tmp_path: Path
) -> None:
    context = server_context(authority.issue(**issued), tmp_path)  # type: ignore[arg-type]
    async with receiving(tls=context) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        attempt = await _call(url, Names(["127.0.0.1"]), tls=_trusting(authority))
        assert attempt.error == error
        assert receiver.requests == []


async def test_an_authority_that_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    """Without a context of the test, that is every authority of a test."""
    context = server_context(authority.issue(names=("hooks.example.com",)), tmp_path)
    async with receiving(tls=context) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        attempt = await _call(url, Names(["127.0.0.1"]))
        assert attempt.error == "the certificate is not from an authority that is trusted"
        assert receiver.requests == []


async def test_no_tls_where_it_should_be() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        attempt = await _call(f"https://hooks.example.com:{port}/", Names(["127.0.0.1"]))
    assert attempt.error == "TLS 1.2 or later could not be negotiated"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_is_of_version_1_2_or_later(authority: Authority, tmp_path: Path) -> None:
    """Also with a context that would allow an earlier one."""
    context = server_context(authority.issue(names=("hooks.example.com",)), tmp_path)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    trusting = _trusting(authority)
    for each in (context, trusting):
        each.set_ciphers("ALL:@SECLEVEL=0")
    trusting.minimum_version = ssl.TLSVersion.TLSv1_1
    async with receiving(tls=context) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        attempt = await _call(url, Names(["127.0.0.1"]), tls=trusting)
        assert attempt.error == "TLS 1.2 or later could not be negotiated"
        assert receiver.requests == []


async def test_a_server_that_hangs_in_tls_leaves_no_connection() -> None:
    closed = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    attempt = await _call(f"https://hooks.example.com:{port}/", Names(["127.0.0.1"]), seconds=1)
    assert attempt == Attempt(error=_LATE, outcome=Outcome.UNREACHABLE)
    await asyncio.wait_for(closed.wait(), 10)
    server.close()
    await server.wait_closed()


async def test_errors_tell_nothing_of_the_network() -> None:
    """No address that a name resolved to, and no port of ours."""
    async with receiving(_sending(b"SECRET of 10.0.0.7\r\n\r\n")) as receiver:
        for names in (Names(["127.0.0.1"]), Names(["127.0.0.9"]), Names(["10.9.8.7"])):
            attempt = await _call(f"http://hooks.example.com:{receiver.port}/", names)
            assert attempt.error
            assert not any(digit in attempt.error.replace("HTTP/1.1", "") for digit in "0123456789")
            assert "SECRET" not in attempt.error


async def test_the_look_up_of_the_system() -> None:
    """A name of the machine; one that no resolver knows, since no top-level domain is invalid (RFC 6761)."""
    resolver = Resolver()
    assert "127.0.0.1" in await resolver("localhost", 443)
    with pytest.raises(OSError, match=r"."):
        await resolver("a" * 64 + ".invalid", 443)


async def test_look_ups_that_hang_are_bounded() -> None:
    """They cannot be ended, so they count until they end; those that wait give up in time."""
    release, begun = threading.Event(), []

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        begun.append(host)
        release.wait()
        return [(2, 1, 6, "", ("127.0.0.1", 443))]

    resolver = Resolver(look_up)
    rules = AddressRules(_LOOPBACK)
    caller = WebhookCaller(_KEYS, rules, lambda: _NOW, resolve=resolver, seconds=1)
    webhook = _webhook("https://hooks.example.com/")
    attempts = await asyncio.gather(*(caller.call(webhook, "evt_1", _BODY) for _ in range(MOST + 5)))
    assert {attempt.error for attempt in attempts} == {_LATE}
    assert len(begun) == MOST
    release.set()
    assert await resolver("hooks.example.com", 443) == ["127.0.0.1"]


async def test_a_call_of_a_url() -> None:
    """`authsvc notifications test URL`."""
    values: dict[str, Any] = {"webhook_networks": "127.0.0.0/8"}
    settings = Settings(**values)
    async with receiving(answering(401)) as receiver:
        attempt = await call_test(settings, f"http://127.0.0.1:{receiver.port}/hooks")
        assert attempt.error == "answered 401"
    [request] = receiver.requests
    assert json.loads(request.body)["type"] == "webhook.test"
    assert "webhook-signature" in request.headers
    assert (await call_test(settings, "https://10.0.0.1/")).error.startswith("the URL has an address that is")


def test_the_secret_that_is_shown_is_the_one_that_signs() -> None:
    version = SecretVersion(3, _KEYS.current_id)
    assert _KEYS.shown("whk_1", version) == "whsec_" + b64encode(_KEYS.secret("whk_1", version)).decode()
