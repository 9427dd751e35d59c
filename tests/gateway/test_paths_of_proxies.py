"""Paths through the real proxies: the same answers with and without a table, and no ambiguous path."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio

from authsvc.process.devpg import DevPostgres
from tests.conftest import Clock, new_database, serving
from tests.gateway.conftest import Behind, bearer, key, new_directory, protected

pytestmark = pytest.mark.asyncio(loop_scope="module")

_COMBINATIONS = [(proxy, version) for proxy in ("envoy", "nginx", "caddy") for version in ("1.1", "2")]
_TABLE = """
[[route]]
path = "/"
any = true
[[route]]
path = "/files/**"
any = true
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_COMBINATIONS, ids="-".join)
async def tabled(
    request: pytest.FixtureRequest, postgres: DevPostgres, reachable_dir: Path, checkout: Path
) -> AsyncIterator[tuple[Behind, str]]:
    """A proxy in front of an upstream, a service with a table, and a valid key."""
    proxy, version = request.param
    directory = new_directory(reachable_dir)
    (directory / "routes.toml").write_text(_TABLE)
    async with (
        new_database(postgres, f"tabled_{proxy}_{version[0]}") as url,
        serving(url, Clock(), http_listen="127.0.0.1:0", routes=directory / "routes.toml") as service,
        protected(service, proxy, checkout, directory, http2=version == "2") as behind,
    ):
        yield behind, (await key(service))[0]


@pytest.mark.parametrize(
    "name",
    [
        "%E8%AB%8B%E6%B1%82%E3%80%80%E6%9B%B8.pdf",  # U+3000
        "%D9%85%DB%8C%E2%80%8C%D8%AE",  # ZWNJ
        "%F0%9F%91%A8%E2%80%8D%F0%9F%91%A9%E2%80%8D%F0%9F%91%A7",  # a family
        "%F0%9F%AB%AF",  # newer than this Python's Unicode
        "a[1]",
        "a{b}",
        "a|b",
        "a^b",
        "a`b",
        'a"b',
        "a<b>",
        "%5B%5D%7B%7D%7C%5E%22%60%3C%3E",
    ],
)
async def test_names_that_are_names(tabled: tuple[Behind, str], name: str) -> None:
    """The upstream gets them, unchanged or encoded."""
    behind, good = tabled
    answer, seen = await behind.send(f"/files/{name}", bearer(good))
    assert answer.status == 200
    assert seen is not None
    assert unquote(seen.target) == unquote(f"/files/{name}")


@pytest.mark.parametrize(
    "path",
    [
        "/files/%00",
        "/files/a%0a",
        "/files/a%7f",
        "/files/a%C2%85",
        "/files/a%2fb",
        "/files/a%5cb",
        "/files/a;b",
        "/files/a%3bb",
        "/files/a%2561",
        "/files/%E2%80%8D../x",
        "/files/%EF%BC%8E%EF%BC%8E/x",
        "/FILES/x",
        "/%EF%BD%86iles/x",
        "/files%E2%80%8B/x",
        "/other",
    ],
)
async def test_names_that_are_none(tabled: tuple[Behind, str], path: str) -> None:
    """Ambiguous paths, control characters, and paths that no entry names."""
    behind, good = tabled
    answer, seen = await behind.send(path, bearer(good))
    assert (answer.status in (400, 403), seen) == (True, None)


# An upstream may read each of these as /orders or a path below it.
_DISGUISED = [
    "/orders;x=1",
    "/orders;",
    "/orders;x=1/1",
    "/orders%3bx=1",
    "/x/..%3B/orders",
    "/x/%2e%2e;/orders",
    "/x/..%2forders",
    "/x%2F..%2Forders",
    "/%2forders",
    "/orders%5c1",
    "/x/..%5Corders",
    "/x/%252e%252e/orders",
    "/%256frders",
    "/x/%c0%ae%c0%ae/orders",
    "/x/%e0%80%ae%E0%80%AE/orders",
    "/x%F0%80%80%AForders",
    "/x/\udcc0\udcae\udcc0\udcae/orders",
    "/x/\udce0\udc80\udcae./orders",
    "/x\udcf0\udc80\udc80\udcaforders",
    "/orders%00",
    "/orders%0a",
    "/orders%7F",
]
# Some proxies normalize these, and check and forward the result.
_STEPS = [
    "/x/..;/orders",
    "/x;/../orders",
    "/orders\\1",
    "/\\orders",
    "/x\\..\\orders",
    "/x/../orders",
    "/x/%2e%2e/orders",
    "/x/.%2E/orders",
    "/x/..",
    "/./orders",
    "/%2e/orders",
    "/orders/.",
]
_MERGED = ["//orders", "/orders//1", "//orders//1"]


@dataclass
class Plain:
    """A proxy that asks a service without a table, and keys that may read, or read and write."""

    behind: Behind
    reader: str
    writer: str


_RULES = {
    "envoy": re.compile(r"safe_regex: \{ regex: '[^']*' \}"),
    "nginx": re.compile(r"if \(\$request_uri ~\* [^\n]*"),
    "caddy": re.compile(r"respond @several_readings [^\n]*"),
}


async def _plain(
    request: pytest.FixtureRequest, postgres: DevPostgres, below: Path, checkout: Path, name: str, rules: bool
) -> AsyncIterator[Plain]:
    proxy, version = request.param

    def without_rule(text: str) -> str:
        text, count = _RULES[proxy].subn("safe_regex: { regex: 'none' }" if proxy == "envoy" else "", text)
        assert count == 1
        return text

    async with (
        new_database(postgres, f"{name}_{proxy}_{version[0]}") as url,
        serving(url, Clock(), http_listen="127.0.0.1:0") as service,
        protected(
            service,
            proxy,
            checkout,
            new_directory(below),
            http2=version == "2",
            change=str if rules else without_rule,
        ) as behind,
    ):
        reader, _ = await key(service, "orders:read")
        writer, _ = await key(service, "orders:read", "orders:write")
        yield Plain(behind, reader, writer)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_COMBINATIONS, ids="-".join)
async def plain(
    request: pytest.FixtureRequest, postgres: DevPostgres, reachable_dir: Path, checkout: Path
) -> AsyncIterator[Plain]:
    """With the files unchanged."""
    async for found in _plain(request, postgres, reachable_dir, checkout, "plain", True):
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_COMBINATIONS, ids="-".join)
async def unruled(
    request: pytest.FixtureRequest, postgres: DevPostgres, reachable_dir: Path, checkout: Path
) -> AsyncIterator[Plain]:
    """With a file of an operator that lacks the rule about paths."""
    async for found in _plain(request, postgres, reachable_dir, checkout, "unruled", False):
        yield found


@pytest.mark.parametrize("target", _DISGUISED, ids=ascii)
async def test_the_files_refuse_what_has_two_readings(plain: Plain, target: str) -> None:
    """All three answer 400, for any credential, and with a query, which makes no difference."""
    for text in (plain.reader, plain.writer):
        for sent in (target, f"{target}?x=1"):
            answer, seen = await plain.behind.send(sent, bearer(text), "POST")
            assert (answer.status, seen) == (400, None)


@pytest.mark.parametrize("target", [*_STEPS, *_MERGED])
async def test_steps_do_not_lead_around_a_scope(plain: Plain, target: str) -> None:
    """They are refused, or checked and forwarded as the path that they resolve to."""
    answer, seen = await plain.behind.send(target, bearer(plain.reader), "POST")
    if target == "/x/.." and plain.behind.proxy.name == "envoy":
        assert seen is not None
        assert seen.target == "/"
    else:
        assert (answer.status in (400, 403), seen) == (True, None)
    answer, seen = await plain.behind.send(target, bearer(plain.writer), "POST")
    if plain.behind.proxy.name == "envoy":
        assert seen is not None
        assert seen.target in ("/", "/orders", "/orders/", "/orders/1")
    elif target in _MERGED:
        assert answer.status == 200
    else:
        assert (answer.status, seen) == (400, None)


@pytest.mark.parametrize("target", [*_DISGUISED, *_STEPS, *_MERGED], ids=ascii)
async def test_authsvc_refuses_them_by_itself(unruled: Plain, target: str) -> None:
    """On checked routes, a scope cannot be bypassed even with a file that lacks the rule."""
    answer, seen = await unruled.behind.send(target, bearer(unruled.reader), "POST")
    if seen is not None:
        assert (unruled.behind.proxy.name, target, seen.target) == ("envoy", "/x/..", "/")
    else:
        assert answer.status in (400, 403)


@pytest.mark.parametrize(
    "target",
    [
        "/x?a=;b&c=/../d&e=%2f%3b%5c%00",
        "/C%23.pdf",
        "/100%25",
        "/100%25%20x",
        "/a..b/..c/d../...",
        "/what%3F",
        "/%E3%81%84%2E",
        "/a:b@c,d=e&f+g$h!i'(j)*~",
        "/orders/a%20b",
    ],
)
async def test_the_files_let_names_be_names(plain: Plain, target: str) -> None:
    """Queries, and delimiters only after a second decoding, are forwarded to the upstream."""
    answer, seen = await plain.behind.send(target, bearer(plain.reader))
    assert answer.status == 200
    assert seen is not None
    assert unquote(seen.target) == unquote(target)


_OPENED = {
    "envoy": ("match: { path: /healthz }", "match: { prefix: /healthz/ }"),
    "nginx": (
        "location = /healthz {\n    if ($request_uri !~ ",
        "location /healthz/ {\n    if ($request_uri ~ ^x",
    ),
    "caddy": ('@health expression {http.request.uri.path} == "/healthz"', "@health path /healthz/*"),
}


@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_a_tree_that_is_not_checked_has_no_way_out(
    postgres: DevPostgres, reachable_dir: Path, checkout: Path, proxy: str
) -> None:
    """An operator may add one. authsvc is not asked there, so the file itself must refuse."""

    def opened(text: str) -> str:
        before, after = _OPENED[proxy]
        assert before in text
        return text.replace(before, after)

    async with (
        new_database(postgres, f"opened_{proxy}") as url,
        serving(url, Clock(), http_listen="127.0.0.1:0") as service,
        protected(service, proxy, checkout, new_directory(reachable_dir), change=opened) as behind,
    ):
        answer, seen = await behind.send("/healthz/x")
        assert (answer.status, seen is not None) == (200, True)
        for way_out in (
            "..;/orders",
            "x;y/..;/..;/orders",
            "..%3b/orders",
            "..%3Bx/orders",
            "%252e%252e/orders",
            "%c0%ae%c0%ae/orders",
            "%e0%80%ae%e0%80%ae/orders",
            "%f0%80%80%ae%f0%80%80%ae/orders",
            "..\\orders",
            "..%5corders",
            "..%2forders",
            "../orders",
            "%2e%2e/orders",
        ):
            answer, seen = await behind.send(f"/healthz/{way_out}")
            # Envoy resolves some, and asks authsvc.
            assert (answer.status in (400, 401), seen) == (True, None), way_out
