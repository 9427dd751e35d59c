"""Replicas of authsvc, each `authsvc serve` with two workers, and connections to every worker of them."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import Settings
from tests.e2e.process import Server, running
from tests.faults.workers import CHANNEL, Fleet, Worker

WORKERS = 2
# The kernel chooses the worker of a connection. So many find both, but for one try in two thousand.
_MOST_LINES = 12


class Line(Worker):
    """One connection to a replica, which the load treats as a worker of its own."""

    def __init__(self, name: str, replica: int, address: str) -> None:
        super().__init__(0, Path(), "", {})
        self.name = name
        self.replica = replica
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL)

    async def end(self) -> None:
        """Close the connection."""
        await self.channel.close()


class Replicas(Fleet):
    """Running replicas on one database; `workers` are the connections."""

    def __init__(self, directory: Path, database_url: str, admin_key: str, lease: float) -> None:
        super().__init__(directory, database_url, admin_key, lease, {})
        self.lines: list[Line] = []
        self.servers: list[Server] = []

    async def connect(self, replica: int, server: Server) -> None:
        """Connect to a replica until each of its workers has a connection, at least two in all."""
        self.servers.append(server)
        for number in range(_MOST_LINES):
            line = Line(f"replica {replica}, connection {number}", replica, server.address)
            self.lines.append(line)
            self.workers.append(line)
            await asyncio.wait_for(line.channel.channel_ready(), 10)
            if number and len(await asyncio.to_thread(_connected, server)) == WORKERS:
                return
        raise AssertionError(f"{_MOST_LINES} connections reach only {_connected(server)}")

    def faults(self) -> list[str]:
        """Return the log lines that report a fault of the product."""
        signs = ("Traceback", "a fault in", "unexpected error in", "never awaited", "never retrieved")
        return [
            f"replica {number}: {line[:2000]}"
            for number, server in enumerate(self.servers)
            for line in server.stderr.splitlines()
            if any(sign in line for sign in signs)
        ]


@asynccontextmanager
async def replicas(
    directory: Path, database_url: str, *, count: int, lease: float
) -> AsyncIterator[Replicas]:
    """Run replicas with a URL while the block runs; they have to stop cleanly at the end."""
    given = Settings(database_url=SecretStr(database_url))  # type: ignore[call-arg]
    async with app.administering(given) as keys:
        minted = await keys.ensure_administrator(another=True)
    assert minted is not None
    found = Replicas(directory, database_url, minted.text, lease)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(found.end)
        for number in range(count):
            home = directory / f"replica-{number}"
            await asyncio.to_thread(home.mkdir, parents=True)
            server = running(
                "serve",
                home,
                workers=WORKERS,
                database_url=database_url,
                lease=lease,
                database_pool_size=8,
                argon2_threads=1,
                drain_grace=1,
                log_format="json",
                scopes="*",
                **found.token_settings,
                caller_limit="0",
                connection_age=0,  # Or connections would move to other workers.
            )
            await found.connect(number, stack.enter_context(server))
        yield found


def _connected(server: Server) -> set[int]:
    """Return the workers of a replica that clients are connected to."""
    port = server.address.rpartition(":")[2]
    found = subprocess.run(
        ["ss", "-Htnp", "state", "established", f"( sport = :{port} )"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {int(pid) for pid in re.findall(r"pid=(\d+)", found.stdout)}
