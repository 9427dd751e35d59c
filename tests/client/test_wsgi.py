"""What only WSGI has: kinds of responses, the place of a mount, and servers that fork."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest

from authsvc.client import AuthenticatedWsgi, BlockingAuthClient, CredentialType, Verdict, VerdictCode
from tests.client.test_web import AMBIGUOUS
from tests.client.web import GUNICORN, serving
from tests.client.webapp import Target, caller, own_key
from tests.conftest import Service
from tests.rpc.test_revoke import make

_APPLICATION = """
from authsvc.client import AuthenticatedWsgi, BlockingAuthClient, current

def app(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    yield environ["PATH_INFO"].encode("latin-1")
    yield current().credential_id.encode() if environ["authsvc.identity"] else b""

client = BlockingAuthClient({address!r}, key={key!r}, tls=None, deadline=30)
application = AuthenticatedWsgi(app, client, scopes={{"/orders/**": "orders:read"}}, public=["/public/**"])
"""


class Valid(BlockingAuthClient):
    """Finds every key valid."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1", key="x", tls=None)

    def verify_key(self, key_string: str, *arguments: Any, **others: Any) -> Verdict:
        return Verdict(VerdictCode.VALID, CredentialType.KEY, key_string)


def environ(path: str = "/", **others: Any) -> WSGIEnvironment:
    """Return the environ of a request with a credential."""
    found: WSGIEnvironment = {"PATH_INFO": path, "HTTP_X_API_KEY": "key_1", **others}
    setup_testing_defaults(found)
    return found


def started(status: str, headers: list[tuple[str, str]], error: object = None) -> Any:
    """Ignore the status."""


class Closing:
    """A response that notes who is the caller when it is closed."""

    def __init__(self) -> None:
        self.closed_by: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield (caller() or "").encode()

    def close(self) -> None:
        self.closed_by = caller()


def served(app: Any, request: WSGIEnvironment) -> Iterable[bytes]:
    return AuthenticatedWsgi(app, Valid(), scopes=[])(request, started)


def test_the_caller_of_a_response() -> None:
    """It is known whenever code of the application runs, and never to the server's code in between."""
    closing = Closing()
    response: Any = served(lambda *_: closing, environ())
    assert caller() is None
    parts = iter(response)
    assert next(parts) == b"key_1"
    assert caller() is None
    response.close()
    assert (closing.closed_by, caller()) == ("key_1", None)


def test_responses_that_servers_send_faster() -> None:
    """A list and a file stay what they are."""
    content = [b"a", b"b"]
    assert served(lambda *_: content, environ()) is content
    file, request = FileWrapper(io.BytesIO(b"a")), environ()
    request["wsgi.file_wrapper"] = FileWrapper
    assert served(lambda *_: file, request) is file


def test_an_application_that_fails() -> None:
    """Its error is the server's, as without us, and the thread forgets the caller."""

    def broken(request: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise KeyError(caller())

    with pytest.raises(KeyError, match="key_1"):
        served(broken, environ())
    assert caller() is None


def test_an_identity_of_the_server_around_us_is_not_kept() -> None:
    """Another middleware, or a client, cannot tell who the caller is."""
    seen: list[object] = []

    def app(request: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append((request["authsvc.identity"], request.get("HTTP_X_AUTH_OWNER_ID")))
        return []

    public = AuthenticatedWsgi(app, Valid(), scopes={"/a": []}, public=["/"])
    public(environ(**{"authsvc.identity": "root", "HTTP_X_AUTH_OWNER_ID": "root"}), started)
    assert seen == [(None, None)]


@pytest.mark.parametrize(
    ("request_", "passes"),
    [
        (environ("/orders"), True),
        (environ("/orders", SCRIPT_NAME="/shop", RAW_URI="/shop/orders?x=/../"), True),
        (environ("/orders", SCRIPT_NAME="/shop", REQUEST_URI="/shop/x/../orders"), False),
        (environ("/shop/orders"), False),
        (environ("", SCRIPT_NAME="/orders"), False),
        (environ("/%6frders"), False),
        (environ("/orders\xff"), False),
        (environ("/orders\u20ac"), False),  # a server that does not keep to the protocol
        (environ("orders"), False),
    ],
)
def test_the_path_is_the_applications(request_: WSGIEnvironment, passes: bool) -> None:
    """That is PATH_INFO; if the server gives the raw path, it has to be unambiguous as well."""
    entered: list[object] = []

    def app(*_: object) -> Iterable[bytes]:
        entered.append(True)
        return []

    AuthenticatedWsgi(app, Valid(), scopes={"/orders": []})(dict(request_), started)
    assert bool(entered) is passes


def test_a_refusal_of_a_head() -> None:
    """It has no body, which would be read as the next response."""
    app = AuthenticatedWsgi(lambda *_: [], Valid(), scopes={"/a": []})
    assert [*app(environ(REQUEST_METHOD="HEAD"), started)] == [b""]
    assert b"ROUTE_NOT_PERMITTED" in b"".join(app(environ(), started))


def test_several_cookies_share_the_deadline() -> None:
    """A request waits no longer because of cookies that somebody has planted."""
    deadlines: list[float] = []

    class Asked(Valid):
        def verify_key(self, key_string: str, *arguments: Any, **others: Any) -> Verdict:
            deadlines.append(others["deadline"])
            return Verdict(VerdictCode.NOT_FOUND, CredentialType.KEY)

    app = AuthenticatedWsgi(lambda *_: [], Asked(), scopes=[], cookies=["sid"])
    request = environ(HTTP_COOKIE="sid=1; sid=2; sid=3; sid=4")
    del request["HTTP_X_API_KEY"]
    app(request, started)
    assert deadlines == [Asked().deadline / 4] * 4


async def test_gunicorn(service: Service, directory: Path) -> None:
    """Processes that are forked with the application loaded; raw paths; threads."""
    made = await make(service, scopes=["orders:read"])
    text = _APPLICATION.format(address=service.address, key=await own_key(service))
    (directory / "shop.py").write_text(text)
    options = ("--preload", "--workers", "2", "--threads", "4", "shop:application")
    with serving(*GUNICORN, *options, cwd=directory) as web:
        target = Target(web.port)
        for _ in range(8):
            answer = await target.get(made.key_string, "/orders/%C3%A9")
            assert answer.body.decode() == f"/orders/é{made.key.key_id}"
        assert (await target.send("GET", "/public/x")).body == b"/public/x"
        for path in (*AMBIGUOUS, "//public", "/public%2fx", "http://host/public/x"):
            answer = await target.get(made.key_string, path)
            # gunicorn itself refuses long paths.
            assert answer.outcome in ((403, "ROUTE_NOT_PERMITTED"), (414, "")), path[:40]
        # gunicorn takes the place of a mount from a proxy on this machine.
        answer = await target.send("GET", "/public/orders/1", ("SCRIPT_NAME", "/public"))
        assert answer.outcome == (401, "CREDENTIAL_MISSING")
        await service.admin.RevokeKey(key_id=made.key.key_id)
        for _ in range(8):
            assert (await target.get(made.key_string, "/orders/1")).outcome == (401, "CREDENTIAL_REVOKED")
    assert made.key_string not in web.told
