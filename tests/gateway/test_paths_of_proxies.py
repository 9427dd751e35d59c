"""Paths through the real proxies: with and without a table they answer alike, and none has two readings."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio

from authsvc.devpg import DevPostgres
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
    """A proxy before a service with a table, and a good key."""
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
        "%F0%9F%AB%AF",  # newer than this Python
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
    """The upstream gets them, as they were or encoded."""
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
    """What has two readings, control characters, and what no entry names."""
    behind, good = tabled
    answer, seen = await behind.send(path, bearer(good))
    assert (answer.status in (400, 403), seen) == (True, None)
