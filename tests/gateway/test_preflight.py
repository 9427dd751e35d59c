"""CORS preflights of browsers, with the table in the documentation and the proxies' files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import Clock, serving
from tests.gateway.client import Headers
from tests.gateway.conftest import QUERIES, Behind, bearer, key, new_directory, protected

_PREFLIGHT: Headers = [
    ("origin", "https://app.test"),
    ("access-control-request-method", "PUT"),
    ("access-control-request-headers", "authorization"),
]
_PROXIES = ("envoy", "nginx", "caddy")


@asynccontextmanager
async def _with_the_table(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path, tmp_path: Path
) -> AsyncIterator[Behind]:
    documentation = await asyncio.to_thread((checkout / "docs/gateways.md").read_text, "utf-8")
    routes = tmp_path / "routes.toml"
    table = documentation.partition("```toml\n")[2].partition("```")[0]
    await asyncio.to_thread(routes.write_text, table)
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0", routes=routes) as service,
        protected(service, proxy, checkout, new_directory(reachable_dir), path="/orders/1") as behind,
    ):
        yield behind


@pytest.mark.parametrize("proxy", _PROXIES)
async def test_preflights_are_public_by_the_table(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path, tmp_path: Path
) -> None:
    """Also where the file requires a scope. Other requests still need it."""
    async with _with_the_table(proxy, database_url, clock, checkout, reachable_dir, tmp_path) as behind:
        good, _ = await key(behind.service, "orders:read")
        for target in ("/orders", "/orders/1", "/orders/1/lines", "/other", "/"):
            answer, seen = await behind.send(target, _PREFLIGHT, "OPTIONS")
            assert (answer.status, seen is not None and seen.method) == (200, "OPTIONS"), target
            assert seen is not None
            assert seen.all("x-auth-owner-id") == []
        for headers, method in (
            ([], "OPTIONS"),
            ([("access-control-request-method", "")], "OPTIONS"),
            (_PREFLIGHT, "GET"),
            (_PREFLIGHT, "POST"),
        ):
            answer, seen = await behind.send("/orders/1", headers, method)
            assert (answer.status, seen) == (401, None), (headers, method)
        shown = bearer(good)
        assert (await behind.send("/orders/1", shown))[0].status == 200
        assert (await behind.send("/orders/1", [*shown, *_PREFLIGHT], "POST"))[0].status == 403
        assert (await behind.send("/orders/1", shown, "OPTIONS"))[0].status == 403


@pytest.mark.parametrize("proxy", _PROXIES)
async def test_a_query_is_the_clients_own(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path, tmp_path: Path
) -> None:
    """For preflights, for routes that are public by the table, and for others."""
    async with _with_the_table(proxy, database_url, clock, checkout, reachable_dir, tmp_path) as behind:
        good, _ = await key(behind.service, "orders:read")
        for query in QUERIES:
            for path, headers, method in (
                ("/orders", _PREFLIGHT, "OPTIONS"),
                ("/orders/1/lines", _PREFLIGHT, "OPTIONS"),
                ("/other", _PREFLIGHT, "OPTIONS"),
                ("/health", [], "GET"),
                ("/health", [], "POST"),
                ("/orders/1", bearer(good), "GET"),
            ):
                answer, seen = await behind.send(path + query, headers, method)
                assert answer.status == 200, (path, query)
                assert seen is not None
                assert (seen.method, seen.target) == (method, path + query)
            for path, headers, method, status in (
                ("/orders/1", [], "OPTIONS", 401),
                ("/orders/1", _PREFLIGHT, "POST", 401),
                ("/orders/1", bearer(good), "POST", 403),
                ("/other", bearer(good), "GET", 403),
            ):
                answer, seen = await behind.send(path + query, headers, method)
                assert (answer.status, seen) == (status, None), (path, query)


@pytest.mark.parametrize("proxy", _PROXIES)
async def test_preflights_without_a_table(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:
    """Unless they are made public, they need a credential like any other request."""
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0") as service,
        protected(service, proxy, checkout, new_directory(reachable_dir)) as behind,
    ):
        for target in ("/orders/1", "/other"):
            answer, seen = await behind.send(target, _PREFLIGHT, "OPTIONS")
            assert (answer.status, seen) == (401, None)
