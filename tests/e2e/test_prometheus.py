"""A real Prometheus scrapes a real service under load: each query of dashboard and rules has series."""

import asyncio
import json
import math
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from authsvc.process.devpg import DevPostgres
from tests.alerts.dashboard import dashboard, queries_of, rules_of, selectors
from tests.conftest import Client
from tests.e2e.process import free_port
from tests.e2e.test_workers import Pack, pack

pytestmark = pytest.mark.slow

# What has no series when all is well, and why.
_EMPTY = {
    "authsvc_certificate_seconds": "the service has no certificate here",
    "authsvc_log_lines_dropped_total": "a logger has no series before its first line is dropped",
}
_EMPTY_PANELS = {
    "Certificate": "the service has no certificate here",
    "Starts of workers": "no worker was started again",
}


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as page:
            return json.loads(page.read())["data"]

    def values(self, query: str) -> list[float]:
        """Return the current values of a query, without those that are no number."""
        found = [float(each["value"][1]) for each in self.get("query", query=query)["result"]]
        return [value for value in found if not math.isnan(value)]

    def has_scraped(self, times: int) -> bool:
        """Return whether it has scraped each process so often, and has evaluated each rule."""
        scraped = self.values("min(count_over_time(authsvc_up[5m]))")
        groups = self.get("rules")["groups"]
        healths = {rule["health"] for group in groups for rule in group["rules"]}
        return bool(scraped) and scraped[0] >= times and healths == {"ok"}


@contextmanager
def prometheus(directory: Path, rules: Path, target: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes every two seconds, and evaluates the rules as often."""
    if (program := shutil.which("prometheus")) is None:
        pytest.skip("no prometheus: Debian package prometheus")
    often = directory / "rules.yaml"
    often.write_text(rules.read_text("utf-8").replace("interval: 30s", "interval: 2s"), "utf-8")
    (directory / "prometheus.yaml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
                "rule_files": [str(often)],
                "scrape_configs": [{"job_name": "authsvc", "static_configs": [{"targets": [target]}]}],
            }
        ),
        "utf-8",
    )
    address = f"127.0.0.1:{free_port()}"
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yaml",
                f"--storage.tsdb.path={directory}/prometheus",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield Prometheus(address)
        finally:
            process.kill()
            process.wait()


async def _call(admin: Client, stranger: Client) -> None:
    """Do once what leaves something in the metrics."""
    made = await admin.CreateKey(owner_id="acme", display_name="Orders", scopes=["orders:read"])
    for _ in range(5):
        assert (await admin.VerifyKey(key_string=made.key_string)).valid
    await admin.VerifyKey(key_string="nobody's")
    await admin.ListKeys(owner_id="acme")
    await admin.RevokeKey(key_id=made.key.key_id)
    with pytest.raises(grpc.aio.AioRpcError):
        await stranger.ListKeys(owner_id="acme")


@asynccontextmanager
async def loaded(on: Pack) -> AsyncIterator[None]:
    """Call the service while the block runs; fail if a call has failed."""
    over = False

    async def call() -> None:
        while not over:
            async with on.client() as admin:
                await _call(admin, admin.with_key("wrong"))
            await asyncio.sleep(0.1)  # Prometheus and the service need some of the machine, too.

    calling = asyncio.create_task(call())
    try:
        yield
    finally:
        over = True
        await calling


async def _until(holds: Callable[[], bool]) -> None:
    """Wait for a condition about what Prometheus has."""
    deadline = time.monotonic() + 120
    while True:
        try:
            if await asyncio.to_thread(holds):
                return
        except OSError:
            pass  # It does not listen yet.
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.1)


async def _cut_off(postgres: DevPostgres, database: str) -> None:
    """Close all connections to a database, and allow no new ones."""
    connection = await asyncpg.connect(postgres.url_for("postgres"))
    try:
        await connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )
    finally:
        await connection.close()


async def _check_queries(scraping: Prometheus, checkout: Path) -> None:
    """Check that each panel and each selector of each rule has series."""
    asked = list(queries_of(dashboard(checkout)))
    empty = [
        (title, query)
        for title, query in asked
        if title not in _EMPTY_PANELS and not await asyncio.to_thread(scraping.values, query)
    ]
    assert empty == []
    wanted = {one for rule in rules_of(checkout) for one in selectors(rule["expr"])}
    wanted |= {one for _, query in asked for one in selectors(query)}
    lacking = {
        one
        for one in wanted
        if one.partition("{")[0] not in _EMPTY and not await asyncio.to_thread(scraping.values, one)
    }
    assert lacking == set()


async def test_queries_have_series_and_an_alert_fires(
    directory: Path, database_url: str, postgres: DevPostgres, checkout: Path
) -> None:
    """Under load none fires; when the database is cut off, one tells so before the leases end."""
    admin_listen = f"127.0.0.1:{free_port()}"
    settings: dict[str, Any] = {name: f"127.0.0.1:{free_port()}" for name in ("http_listen", "web_listen")}
    rules = checkout / "deploy/prometheus/rules.yaml"
    async with pack(directory, database_url, admin_listen=admin_listen, lease="15s", **settings) as on:
        with prometheus(directory, rules, admin_listen) as scraping:
            async with loaded(on):
                await _until(lambda: scraping.has_scraped(3))
                await _check_queries(scraping, checkout)
            alerts = await asyncio.to_thread(scraping.get, "alerts")
            assert [each["labels"] for each in alerts["alerts"] if each["state"] == "firing"] == []
            await _cut_off(postgres, database_url.rpartition("/")[2])
            fired = 'max_over_time(ALERTS{alertname="AuthsvcLeaseLow", alertstate="firing"}[5m])'
            await _until(lambda: len(scraping.values(fired)) == 2)  # of both workers
