"""A primary and its synchronous standby, both real, and the addresses at which workers find the primary.

A template cluster is created once; a pair is two copies of it, so it is ready within a second or two. The
servers die with this process, whatever kills it.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from authsvc.process.devpg import Binaries
from authsvc.process.devpg.account import unprivileged
from authsvc.process.devpg.child import spawn
from authsvc.store.migrate import migrate
from tests.e2e.process import free_port

T = TypeVar("T")

_USER = "authsvc"
_PASSWORD = "standby"
_READY_WITHIN = 30.0
# Tests need no data after a crash of the machine.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "wal_keep_size": "64MB",
    "wal_retrieve_retry_interval": "100ms",
    "logging_collector": "off",
}


async def until(ask: Callable[[], Awaitable[T]], *, seconds: float = 10) -> T:
    """Poll until there is a result, and return it; fail after a time."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await ask():
                return answer
            await asyncio.sleep(0.005)


@dataclass(frozen=True)
class Installation:
    """The binaries, and the account that can run them."""

    binaries: Binaries
    account: tuple[int, int]

    @classmethod
    def find(cls) -> "Installation":
        if os.geteuid() == 0:
            account = unprivileged()
            return cls(Binaries.find().within_reach_of(account), account)
        return cls(Binaries.find(), (os.geteuid(), os.getegid()))

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL to its end; if it fails, raise with its output."""
        child = spawn([str(self.binaries.directory / program), *arguments], self.account, subprocess.PIPE)
        output = child.communicate()[0].decode(errors="replace")
        assert child.returncode == 0, f"{program}: {output[-2000:]}"

    def make(self, directory: Path) -> None:
        directory.mkdir()
        self.owns(directory)

    def owns(self, path: Path) -> None:
        """Give a file or directory to the account."""
        os.chown(path, *self.account)


class Server:
    """One PostgreSQL server on one directory, which can be started and stopped; always on the same port."""

    def __init__(self, installation: Installation, directory: Path, settings: Mapping[str, str] = {}) -> None:
        self.directory = directory
        self.port = free_port()
        self._installation = installation
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_for(_USER)

    def url_for(self, database: str) -> str:
        return f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        """The output of the server."""
        return self._log.read_text("utf-8", errors="replace")

    @property
    def _log(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.log")

    async def start(self) -> None:
        """Start, and return when it accepts connections."""
        command = [str(self._installation.binaries.directory / "postgres"), "-D", str(self.directory)]
        for name, value in {**_SETTINGS, **self._settings, "port": str(self.port)}.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._process = spawn(command, self._installation.account, log.fileno())
        until = time.monotonic() + _READY_WITHIN
        while not self._is_ready():
            assert self._process.poll() is None, f"PostgreSQL ended:\n{self.log[-2000:]}"
            assert time.monotonic() < until, f"PostgreSQL is not ready:\n{self.log[-2000:]}"
            await asyncio.sleep(0.01)

    async def stop(self, how: int = signal.SIGQUIT) -> None:
        """Stop at once, as in a crash, or cleanly with SIGINT; do nothing if it does not run."""
        if self._process is not None:
            self._process.send_signal(how)
            await asyncio.to_thread(self._process.wait, 20.0)
            self._process = None

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """Run one statement over a separate connection."""
        connection = await asyncpg.connect(self.url, timeout=10)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            connection.terminate()

    async def waiting(self, like: str = "%") -> list[int]:
        """Return the backends that wait for a standby, with the statement that they commit."""
        rows = await self.fetch(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE $1 ORDER BY pid",
            like,
        )
        return [row["pid"] for row in rows]

    async def one_waiting(self, like: str = "%") -> int:
        """Wait for a backend that waits for a standby."""
        return (await until(lambda: self.waiting(like)))[0]

    async def cancel(self, pid: int) -> None:
        """Cancel the wait of a backend."""
        await self.fetch("SELECT pg_cancel_backend($1)", pid)

    async def back_up(self, directory: Path) -> None:
        """Copy the running server's files so that a server can start from them."""
        url = self.url_for("postgres")
        arguments = ["-d", url, "-D", str(directory), "-c", "fast", "-X", "stream", "--no-sync"]
        await asyncio.to_thread(self._installation.run, "pg_basebackup", *arguments)

    async def restore(self, directory: Path) -> None:
        """Replace a stopped server's files by a copy."""
        assert self._process is None
        await asyncio.to_thread(shutil.rmtree, self.directory)
        await _copy(directory, self.directory)

    def _is_ready(self) -> bool:
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return ours and len(lines) > 7 and lines[7].strip() in ("ready", "standby")


class Pair:
    """A primary, and the standby that each of its commits waits for."""

    def __init__(self, primary: Server, standby: Server) -> None:
        self.primary = primary
        self.standby = standby

    async def part(self) -> None:
        """Cut the standby off: from now on no commit of the primary is acknowledged.

        Both run and can be read.
        """
        await self._follow("''")
        await until(lambda: self.primary.fetch("SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_replication)"))

    async def join(self) -> None:
        """Let the standby follow again, and wait until it does."""
        await self._follow("DEFAULT")
        await self.synchronous()

    async def promote(self) -> None:
        """Promote the standby. The old primary runs on, can be read, and cannot acknowledge a commit."""
        await self.part()
        await self.standby.fetch("SELECT pg_promote()")

    async def synchronous(self) -> None:
        """Wait until commits wait for the standby, and it is connected."""
        await until(lambda: self.primary.fetch("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"))

    async def _follow(self, whom: str) -> None:
        await self.standby.fetch(f"ALTER SYSTEM SET primary_conninfo = {whom}")
        await self.standby.fetch("SELECT pg_reload_conf()")


class Address:
    """The address of the primary for a worker; when it moves, open connections stay where they are."""

    def __init__(self, target: Server) -> None:
        self._target: Server | None = target
        self._listener: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], int] = {}
        self.port = 0

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/{_USER}?sslmode=disable"

    async def __aenter__(self) -> "Address":
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._cut(list(self._lines))

    def move(self, target: Server | None) -> None:
        """Lead new connections to another server, or to none."""
        self._target = target

    async def cut(self, server: Server) -> None:
        """Close the open connections to a server."""
        await self._cut([task for task, port in self._lines.items() if port == server.port])

    def connected_to(self, server: Server) -> int:
        """Return the number of open connections to a server."""
        return sum(port == server.port for port in self._lines.values())

    async def _cut(self, tasks: "Collection[asyncio.Task[None]]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._target is None:
            writer.transport.abort()
            return
        self._lines[task] = port = self._target.port
        try:
            with suppress(OSError):
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    there = asyncio.create_task(_pump(reader, there_writer))
                    back = asyncio.create_task(_pump(there_reader, writer))
                    try:
                        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        there.cancel()
                        back.cancel()
                        await asyncio.gather(there, back, return_exceptions=True)
                finally:
                    there_writer.transport.abort()
        except asyncio.CancelledError:
            pass  # It was cut; there is nothing to report it to.
        finally:
            writer.transport.abort()
            del self._lines[task]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def template(directory: Path) -> AsyncIterator[Path]:
    """Yield the directory of a stopped cluster with a migrated database, as a template."""
    installation = Installation.find()
    installation.make(directory)
    cluster, password = directory / "cluster", directory / "password"
    password.write_text(_PASSWORD)
    installation.owns(password)
    options = ["-D", str(cluster), "-U", _USER, f"--pwfile={password}", "--auth=scram-sha-256"]
    options += ["--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"]
    await asyncio.to_thread(installation.run, "initdb", *options)
    server = Server(installation, cluster)
    await server.start()
    try:
        connection = await asyncpg.connect(server.url_for("postgres"))
        await connection.execute(f"CREATE DATABASE {_USER}")
        await connection.close()
        await migrate(server.url)
    finally:
        await server.stop(signal.SIGINT)
    yield cluster


@asynccontextmanager
async def pair(template: Path, directory: Path) -> AsyncIterator[Pair]:
    """Run a primary and its synchronous standby in a directory, which is removed at the end."""
    installation = Installation.find()
    async with _directory(installation, directory), AsyncExitStack() as stack:
        for name in "primary", "standby":
            await _copy(template, directory / name)
        primary = Server(installation, directory / "primary", {"synchronous_standby_names": "*"})
        stack.push_async_callback(primary.stop)
        await primary.start()
        standby = Server(installation, directory / "standby")
        (standby.directory / "standby.signal").touch()
        installation.owns(standby.directory / "standby.signal")
        with (standby.directory / "postgresql.conf").open("a") as configuration:
            configuration.write(f"primary_conninfo = '{primary.url_for('postgres')}'\n")
        stack.push_async_callback(standby.stop)
        await standby.start()
        both = Pair(primary, standby)
        await both.synchronous()
        yield both


@asynccontextmanager
async def single(template: Path, directory: Path) -> AsyncIterator[Server]:
    """Run one server without a standby in a directory, which is removed at the end."""
    installation = Installation.find()
    async with _directory(installation, directory):
        await _copy(template, directory / "primary")
        server = Server(installation, directory / "primary")
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def _directory(installation: Installation, directory: Path) -> AsyncIterator[None]:
    installation.make(directory)
    try:
        yield
    finally:
        await asyncio.to_thread(shutil.rmtree, directory)


async def _copy(source: Path, target: Path) -> None:
    """Copy a directory with owners and modes."""
    await asyncio.to_thread(subprocess.run, ["cp", "-a", str(source), str(target)], check=True)
