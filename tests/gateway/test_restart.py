"""A rolling restart of the service while real proxies forward requests."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.e2e.process import eventually, free_port, running
from tests.gateway.client import get_http1
from tests.gateway.conftest import ASKS, bearer, new_directory, proxied


@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_a_rolling_restart_is_not_noticed(proxy: str, checkout: Path, reachable_dir: Path) -> None:
    """Each worker is replaced, and every request gets through: its check is retried on another worker."""
    http_port = free_port()
    with running(
        "dev", new_directory(reachable_dir), workers=2, http_listen=f"127.0.0.1:{http_port}"
    ) as server:
        async with server.client() as admin:
            own = await admin.CreateKey(owner_id="authsvc", display_name="proxy", scopes=ASKS)
            made = await admin.CreateKey(owner_id="acme", display_name="x")
        ports = {"50051": int(server.address.rpartition(":")[2]), "50080": http_port}
        directory = new_directory(reachable_dir)
        async with proxied(proxy, checkout, directory, own.key_string, ports) as (_, at):
            done = asyncio.Event()
            statuses: list[int] = []

            async def send() -> None:
                while not done.is_set():
                    statuses.append((await get_http1(at.port, "/", bearer(made.key_string))).status)

            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(send())
                server.process.send_signal(signal.SIGHUP)
                await eventually(lambda: "the rolling restart is done" in server.stderr, 60)
                done.set()
            assert len(statuses) > 50
            assert set(statuses) == {200}
