"""The client and a service with several workers: it reaches all, and avoids those that stop."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from authsvc.client import AuthClient, ClientError
from tests.conftest import Client
from tests.e2e.process import eventually, free_port
from tests.e2e.test_workers import pack

pytestmark = pytest.mark.slow


async def make(admin: Client) -> str:
    made = await admin.CreateKey(owner_id="acme", display_name="Orders")
    return str(made.key_string)


async def test_all_workers_are_asked(directory: Path, database_url: str) -> None:
    """With enough connections, each worker of a port is reached and gets a share of the calls."""
    metrics = f"127.0.0.1:{free_port()}"
    async with pack(directory, database_url, workers=2, admin_listen=metrics) as on:
        async with on.client() as admin:
            key_string = await make(admin)

        def counts() -> list[float]:
            return [on.server.metric('authsvc_rpc_seconds_count{method="VerifyKey"}', n) for n in range(2)]

        key = on.server.data_dir / "admin.key"
        async with AuthClient(on.server.address, key=key, tls=None, deadline=30, connections=24) as client:
            # The kernel misses a worker 24 times once in ten million runs. Until all connections are
            # established, a few of them carry the calls.
            async with asyncio.timeout(60):
                while not all(counts()):
                    assert all(await asyncio.gather(*(client.verify_key(key_string) for _ in range(100))))


async def test_a_rolling_restart_is_not_noticed(directory: Path, database_url: str) -> None:
    """While workers are replaced one after the other, every call is answered."""
    outcomes: Counter[str] = Counter()
    stop = asyncio.Event()

    async def load(client: AuthClient, key_string: str) -> None:
        while not stop.is_set():
            try:
                verdict = await client.verify_key(key_string)
            except ClientError as error:
                outcomes[str(error)] += 1
                await asyncio.sleep(0.01)
            else:
                outcomes[verdict.code.name] += 1

    async with pack(directory, database_url, workers=2) as on:
        async with on.client() as admin:
            key_string = await make(admin)
        key = on.server.data_dir / "admin.key"
        async with AuthClient(on.server.address, key=key, tls=None, deadline=30) as client:
            running = asyncio.gather(*(load(client, key_string) for _ in range(8)))
            await eventually(lambda: outcomes["VALID"] > 100)
            for turn in (1, 2, 3):
                on.signal(signal.SIGHUP)
                await on.tells("the rolling restart is done", turn)
            served = outcomes["VALID"]
            await eventually(lambda: outcomes["VALID"] > served + 100)
            stop.set()
            await running
    assert set(outcomes) == {"VALID"}
