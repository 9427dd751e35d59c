"""The rules of the middlewares for methods and paths, and the settings that are refused."""

from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.client import AuthClient, AuthenticatedAsgi, AuthenticatedWsgi, BlockingAuthClient
from authsvc.client import http_middleware as middleware
from authsvc.client import path as ours
from authsvc.client.cookies import Cookies
from authsvc.client.presented import candidates_in
from authsvc.client.refusal import Refusal
from authsvc.client.routes import Routes
from authsvc.gateway import access as gateway_access
from authsvc.gateway import identity as gateway_identity
from authsvc.gateway.path import canonical as canonical_of_the_gateway
from authsvc.gateway.presented import CredentialSources

_PIECES = st.sampled_from(
    [
        *"/.;%?#\\aA :~é\x00\x7f",
        "..",
        "%2f",
        "%2E",
        "%5c",
        "%25",
        "%00",
        "%c3%a9",
        "%ff",
        "%e2%80%8b",
        "\uff0e",
    ]
)
_TOKEN = "authsvc_session_" + "0" * 63


@given(st.lists(_PIECES, max_size=8).map("".join))
def test_paths_are_read_as_by_a_gateway(rest: str) -> None:
    """What a gateway refuses is refused; all others are found by the same decoded path."""
    target = f"/{rest}"
    path = unquote_to_bytes(target.partition("?")[0]).decode("utf-8", "replace")
    found = ours.canonical(path) if ours.is_plain(target) else None
    assert found == canonical_of_the_gateway(target)


@given(
    st.lists(st.sampled_from([*';, ="', "a", "sid", "sid=", f"sid={_TOKEN}", "sid=x", "; "]), max_size=8).map(
        "".join
    )
)
def test_cookies_are_read_as_by_a_gateway(value: str) -> None:
    """The same credentials, the same refusals, and the same rest for the application."""
    sources, cookies = CredentialSources(["cookie:sid"]), Cookies(["sid"])
    theirs = sources.find({"cookie": value})
    if theirs.ambiguous or not theirs.texts:
        with pytest.raises(Refusal) as refused:
            candidates_in([("cookie", value)], cookies)
        reason = "CREDENTIAL_AMBIGUOUS" if theirs.ambiguous else "CREDENTIAL_MISSING"
        assert refused.value.reason == reason
    else:
        assert list(candidates_in([("cookie", value)], cookies)) == list(theirs.texts)
    assert cookies.without(value) == sources.without_cookie(value)
    assert cookies.without(value, _TOKEN) == sources.without_cookie(value, _TOKEN)


def test_the_same_headers_as_at_a_gateway() -> None:
    assert set(gateway_identity.NAMES) == middleware._IDENTITY_HEADERS
    assert gateway_access.REWRITING == middleware._REWRITING


def test_cookies_of_several_names() -> None:
    """Two of them with different credentials are ambiguous, and neither reaches the application."""
    cookies = Cookies(["sid", "__Host-sid"])
    assert cookies.find("sid=a; __Host-sid=a; sidx=b") == (["a", "a"], False)
    assert candidates_in([("cookie", "sid=a; __Host-sid=a")], cookies) == ["a"]
    assert cookies.without("sid=a; x=1; __Host-sid=b; sidx=c") == "x=1; sidx=c"
    with pytest.raises(Refusal, match="exactly one"):
        candidates_in([("cookie", "sid=a"), ("cookie", "__Host-sid=b")], cookies)


def test_the_most_specific_pattern_counts() -> None:
    """In whatever order they are listed."""
    scopes = {
        "/**": "rest",
        "/orders/**": "below",
        "/orders": "orders",
        "/orders/*": "one",
        "POST,PUT /orders/*": "change",
        "/orders/new": "new",
        "/orders/*/lines": "lines",
        "/orders/private/*": "private",
        "GET /é": "name",
    }
    for listed in (scopes, dict(reversed(scopes.items()))):
        routes = Routes(listed, ["GET /orders/public", "/"])

        def scope(request: str, routes: Routes = routes) -> str:
            method, _, path = request.partition(" ")
            rule = routes.rule(method, path)
            return "" if rule is None else "public" if rule.is_public else rule.scopes[0]

        for request, expected in (
            ("GET ", "public"),
            ("GET /x/y", "rest"),
            ("GET /orders", "orders"),
            ("GET /orders/1", "one"),
            ("POST /orders/1", "change"),
            ("PUT /orders/1", "change"),
            ("POST /orders/new", "new"),
            ("GET /orders/public", "public"),
            ("HEAD /orders/public", "public"),
            ("POST /orders/public", "change"),
            ("GET /orders/1/lines", "lines"),
            ("GET /orders/private/lines", "private"),
            ("GET /orders/1/lines/2", "below"),
            ("GET /é", "name"),
            ("HEAD /é", "name"),
            ("POST /é", "rest"),
            # Read without regard to case, these are others.
            ("GET /Orders", ""),
            ("GET /orders/NEW", ""),
            ("GET /orders/Public", ""),
            ("GET /É", ""),
            ("GET /\uff4frders", ""),
            ("GET /ord\u200bers", ""),
            ("get /orders", ""),
            (" /orders", ""),
        ):
            assert scope(request) == expected, request
        assert routes.rule("GET", None) is None


_A = {"/a": "b"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"scopes": {}}, "no path is listed"),
        ({"scopes": None}, "scopes"),
        ({"scopes": {"/a": None}}, "scopes"),
        ({"scopes": [""]}, "not a valid scope"),
        ({"scopes": {"/a": "b c\n"}}, "not a valid scope"),
        ({"scopes": {"orders": "a"}}, "GET /orders/\\*"),
        ({"scopes": {"": "a"}}, "not a valid pattern"),
        ({"scopes": {"GET": "a"}}, "not a valid pattern"),
        ({"scopes": {"get /orders": "a"}}, "capital letters"),
        ({"scopes": {"GET,,POST /orders": "a"}}, "not a method"),
        ({"scopes": {"GET: /orders": "a"}}, "not a method"),
        ({"scopes": {"/orders/": "a"}}, "leave out the slash"),
        ({"scopes": {"//orders": "a"}}, "'' is not a valid segment"),
        ({"scopes": {"/a/../b": "a"}}, "'..' is not a valid segment"),
        ({"scopes": {"/orders/{id}": "a"}}, "for any one segment"),
        ({"scopes": {"/orders/<int:id>": "a"}}, "for any one segment"),
        ({"scopes": {"/orders/:id": "a"}}, "for any one segment"),
        ({"scopes": {"/**/orders": "a"}}, "at the end"),
        ({"scopes": {"/orders*": "a"}}, "for any one segment"),
        ({"scopes": {"/a%20b": "a"}}, "write it decoded"),
        ({"scopes": {"/a": "b", "GET /A": "c"}}, "differs only by case"),
        ({"scopes": {"GET /a": "b", "HEAD,PUT /a": "c"}}, "twice"),
        ({"scopes": _A, "public": ["/a"]}, "twice"),
        ({"scopes": _A, "public": ["/b", "/b"]}, "twice"),
        ({"scopes": _A, "public": "/b"}, "public takes a list"),
        ({"scopes": {b"/a": "b"}}, "not a pattern"),
        ({"scopes": _A, "accept": []}, "accept is empty"),
        ({"scopes": _A, "accept": ["keys"]}, "keys"),
        ({"scopes": _A, "cookies": "sid"}, "cookies takes a list"),
        ({"scopes": _A, "cookies": ["a=b"]}, "valid name of a cookie"),
        ({"scopes": _A, "cookies": [""]}, "valid name of a cookie"),
        ({"scopes": _A, "client_address": "REMOTE_ADDR"}, "client_address"),
    ],
)
def test_settings_that_cannot_be_meant(options: Any, problem: str) -> None:
    """A mistake stops the service at its start, and is named."""
    with pytest.raises((ValueError, TypeError), match=problem):
        AuthenticatedWsgi(lambda *_: [], BlockingAuthClient("localhost:1", key="x", tls=None), **options)


def test_clients_and_applications_that_are_none() -> None:
    """The client has to be the one for the protocol."""
    client: Any = AuthClient("localhost:1", key="x", tls=None)
    blocking: Any = BlockingAuthClient("localhost:1", key="x", tls=None)
    app: Any = print
    with pytest.raises(TypeError, match="to be: BlockingAuthClient; this is: AuthClient"):
        AuthenticatedWsgi(app, client, scopes=[])
    with pytest.raises(TypeError, match="to be: AuthClient; this is: BlockingAuthClient"):
        AuthenticatedAsgi(app, blocking, scopes=[])
    with pytest.raises(TypeError, match="not an application"):
        AuthenticatedAsgi(client, app, scopes=[])
