"""Replicas of several workers and a follower, under the load and the checker of the fault tests.

A replica is the real `authsvc serve`. Clients know its connections, each of which leads to one of its
workers; after the death of a worker it leads to another one.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from tests.e2e.process import environment, eventually
from tests.e2e.test_workers import children
from tests.faults.workers import CHANNEL, Fleet, Worker, is_stopped

_CHECKOUT = Path(__file__).parent.parent.parent


class Replica:
    """A supervisor with its children."""

    def __init__(self, number: int, directory: Path, settings: dict[str, object]) -> None:
        self.number = number
        self.address = ""
        self.starts = 0
        self._home = directory / f"replica-{number}"
        self._settings = {"listen": "127.0.0.1:0", "connection_age": 0, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        """The log of all its processes."""
        return "".join(path.read_text("utf-8") for path in sorted(self._home.glob("stderr-*")))

    def order(self, name: str, *, on: bool = True) -> None:
        """Give one of the orders of `tests.faults.holder_stages`, or withdraw it."""
        if on:
            (self._home / name).touch()
        else:
            (self._home / name).unlink(missing_ok=True)

    @property
    def stopped(self) -> list[int]:
        """The process ids of its children that SIGSTOP holds."""
        return [pid for pid in children(self.process.pid) if is_stopped(pid)]

    def launch(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self.starts += 1
        self._home.mkdir(exist_ok=True)
        if self.address:
            self._settings["listen"] = self.address  # Clients know it.
        with (self._home / f"stderr-{self.starts}").open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.serve", str(self._home)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=_CHECKOUT,
                env=environment(**self._settings),
            )

    async def ready(self) -> None:
        """Wait until all its workers serve."""
        path = self._home / f"stderr-{self.starts}"

        def serves() -> bool:
            assert self.process.poll() is None, self.log
            told = re.search(r"serving at (\S+:\d+)", path.read_text("utf-8"))
            self.address = told[1] if told else self.address
            return told is not None

        await eventually(serves, 90)

    async def follower(self, on: Fleet) -> int:
        """Return the process id of its follower."""
        return (await self._row(on))[0]

    async def workers(self, on: Fleet) -> list[int]:
        """Return the process ids of its workers that are attached."""
        return (await self._row(on))[1]

    async def _row(self, on: Fleet) -> tuple[int, list[int]]:
        family = set(children(self.process.pid))
        rows = await on.sql("SELECT pid, worker_pids FROM authsvc.workers ORDER BY register_time DESC")
        for row in rows:
            if row["pid"] in family:
                return row["pid"], row["worker_pids"]
        return 0, []

    async def kill(self) -> None:
        """SIGKILL to the supervisor; its children notice that, and end."""
        family = children(self.process.pid)
        self.process.kill()
        await asyncio.to_thread(self.process.wait, 30)
        await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 60)

    async def end(self) -> None:
        """Stop it cleanly; processes that are stopped continue first."""
        if self._process is None or self._process.poll() is not None:
            return
        for pid in children(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, 40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Connection(Worker):
    """A connection to a replica, in the place of a worker."""

    def __init__(self, number: int, replica: Replica, directory: Path) -> None:
        super().__init__(number, directory, "", {})
        self.name = f"connection {number} to replica {replica.number}"
        self.replica = replica
        self.starts = 1

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self.replica.process

    @property
    def address(self) -> str:
        return self.replica.address

    @property
    def log(self) -> str:
        return self.replica.log

    def launch(self, *, predecessors: tuple[str, ...] = ()) -> None:
        self.replica.launch()

    async def ready(self) -> None:
        await self.replica.ready()
        self._channel = grpc.aio.insecure_channel(self.replica.address, options=CHANNEL)
        await asyncio.wait_for(self._channel.channel_ready(), 30)

    async def end(self) -> None:
        await self.replica.end()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None


def replicas(
    number: int, *, workers: int = 2, connections: int = 3, **settings: Any
) -> Callable[[Fleet], None]:
    """Return what arranges a fleet of so many replicas, instead of workers."""

    def arrange(on: Fleet) -> None:
        first = len(replicas_of(on))
        for each in range(first, first + number):
            template = on.add(workers=workers, **settings)
            on.workers.remove(template)
            replica = Replica(each, template.directory, template.settings)
            for _ in range(connections):
                on.workers.append(Connection(len(on.workers), replica, template.directory))

    return arrange


def replicas_of(on: Fleet) -> list[Replica]:
    """Return the replicas of a fleet, in order."""
    found = {each.replica.number: each.replica for each in on.workers if isinstance(each, Connection)}
    return [found[number] for number in sorted(found)]
