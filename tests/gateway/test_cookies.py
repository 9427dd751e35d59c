"""Cookies through the real proxies: only the credential is removed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from authsvc.process.devpg import DevPostgres
from tests.conftest import Clock, new_database, serving
from tests.gateway.client import Headers, get_http1
from tests.gateway.conftest import Behind, new_directory, protected

pytestmark = pytest.mark.asyncio(loop_scope="module")

_COMBINATIONS = [(proxy, version) for proxy in ("envoy", "nginx", "caddy") for version in ("1.1", "2")]


def _with_cookies(text: str) -> str:
    """Return a file of deploy/ changed for a cookie as its comments say."""
    text = text.replace("# proxy_set_header Cookie ", "proxy_set_header Cookie ")
    return text.replace("X-Auth-Credential-Type\n", "X-Auth-Credential-Type X-Auth-Cookie>Cookie\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_COMBINATIONS, ids="-".join)
async def behind(
    request: pytest.FixtureRequest, postgres: DevPostgres, reachable_dir: Path, checkout: Path
) -> AsyncIterator[Behind]:
    proxy, version = request.param
    async with (
        new_database(postgres, f"cookies_{proxy}_{version[0]}") as url,
        serving(url, Clock(), http_listen="127.0.0.1:0", gateway_credentials="bearer,cookie:sid") as service,
        protected(
            service,
            proxy,
            checkout,
            new_directory(reachable_dir),
            http2=version == "2",
            change=_with_cookies,
        ) as found,
    ):
        yield found


async def _token(behind: Behind) -> str:
    opened = await behind.service.admin.CreateSession(owner_id="alice", scopes=["orders:read"])
    token: str = opened.session_token
    return token


@pytest.mark.parametrize(
    "others",
    [
        b"a=1,2",
        b"a=b; c=d=e",
        b'consent={"a":1,"b":[2,3]}; t=2024-01-01T00:00:00,x=y,',
        b"n=J\xc3\xbcrgen; e=\xf0\x9f\x98\x80",
    ],
)
async def test_other_cookies_arrive_as_they_were_sent(behind: Behind, others: bytes) -> None:
    """Commas, JSON and UTF-8 are kept, wherever our cookie is."""
    own = b"sid=" + (await _token(behind)).encode()
    for cookie in (own + b"; " + others, others + b"; " + own):
        answer, seen = await behind.send("/orders/1", [("cookie", cookie)])
        assert (answer.status, seen is not None) == (200, True)
        assert seen is not None
        assert [value.encode("latin-1") for value in seen.all("cookie")] == [others]


async def test_cookies_that_are_no_utf_8(behind: Behind) -> None:
    """Envoy replaces such bytes before we see them, and the upstream gets the result; others keep them."""
    headers: Headers = [("cookie", b"n=J\xfcrgen; sid=" + (await _token(behind)).encode())]
    answer, seen = await behind.send("/orders/1", headers)
    assert answer.status == 200
    assert seen is not None
    assert seen.all("cookie") == ["n=J!rgen" if behind.proxy.name == "envoy" else "n=J\xfcrgen"]


async def test_only_ours(behind: Behind) -> None:
    """Then the cookie header is missing or empty."""
    answer, seen = await behind.send("/orders/1", [("cookie", f"sid={await _token(behind)}")])
    assert answer.status == 200
    assert seen is not None
    assert "".join(seen.all("cookie")) == ""


@pytest.mark.parametrize("old_one", ["", "rubbish", "authsvc_session_" + "0" * 63])
async def test_an_old_cookie_beside_a_new_one(behind: Behind, old_one: str) -> None:
    """The browser is not locked out, and neither cookie reaches the upstream."""
    own = f"sid={await _token(behind)}"
    for cookie in (f"sid={old_one}; a=1; {own}", f"{own}; a=1; sid={old_one}"):
        answer, seen = await behind.send("/orders/1", [("cookie", cookie)])
        assert answer.status == 200
        assert seen is not None
        assert (seen.all("cookie"), seen.all("x-auth-owner-id")) == (["a=1"], ["alice"])
    other = await _token(behind)
    for several in (f"{own}; sid={other}", f"a=1,sid={old_one or 'x'}; {own}", f"a=1 sid={other}; {own}"):
        answer, seen = await behind.send("/orders/1", [("cookie", several)])
        assert (answer.status, seen) == (401, None)
        assert json.loads(answer.body)["reason"] == "CREDENTIAL_AMBIGUOUS"


async def test_cookies_in_several_headers(behind: Behind) -> None:
    """HTTP/2 allows that (RFC 9113, 8.2.3). HTTP/1.1 does not, and then Envoy joins them with commas."""
    headers: Headers = [("cookie", "a=1,2"), ("cookie", f"sid={await _token(behind)}"), ("cookie", "b=3")]
    answer, seen = await behind.send("/orders/1", headers)
    assert answer.status == 200
    assert seen is not None
    joined = behind.proxy.name == "envoy" and behind.get is get_http1
    assert "; ".join(seen.all("cookie")) == ("a=1,2,b=3" if joined else "a=1,2; b=3")
