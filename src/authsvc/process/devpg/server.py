"""The server process: its port, its start and its end."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import asyncpg

from authsvc.process.devpg.binaries import Binaries
from authsvc.process.devpg.child import spawn
from authsvc.process.devpg.cluster import Cluster
from authsvc.process.devpg.error import DevPostgresError

_USER = "authsvc"  # the superuser, and the database that start() makes
_MAX_START_SECONDS = 60.0
# The signals of a fast and of an immediate shutdown, then SIGKILL; and how long each has to end the server.
_STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
_LOG_LINES = 20  # of PostgreSQL's log, in an error


class DevPostgres:
    """One PostgreSQL server on one data directory; `async with` starts and stops it.

    The same object can start again after `stop()` and after a crash of the server. The `settings` are
    parameters of PostgreSQL; those that say where it listens have no effect.
    """

    def __init__(
        self, data_dir: Path, *, settings: Mapping[str, str] = {}, binaries: Binaries | None = None
    ) -> None:
        self._cluster = Cluster(data_dir)
        self._settings = dict(settings)
        self._binaries = binaries
        self._server: subprocess.Popen[bytes] | None = None
        self._password = ""
        self._port = 0

    @property
    def url(self) -> str:
        """The URL of the database `authsvc`, for its superuser; it contains the password."""
        return self.url_for(_USER)

    def url_for(self, database: str) -> str:
        """Return the URL of another database on this server."""
        if not self._port:
            raise DevPostgresError("the embedded PostgreSQL was never started")
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        if self._server is None:
            raise DevPostgresError("the embedded PostgreSQL is not running")
        return self._server.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server, making the cluster if there is none, and return when it accepts connections.

        Raises DevPostgresError when there are no binaries, the data directory is in use or cannot be
        used, or the server does not start; nothing runs then.
        """
        if self._server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # a crash is known after a moment
                await asyncio.to_thread(self._server.wait, 1.0)
            if self._server.returncode is None:
                raise self._cluster.in_use(self.pid)
        try:
            self._cluster.claim()
            self._binaries = await asyncio.to_thread(self._usable_binaries)
            await self._cluster.wait_for_predecessor()
            await self._cluster.ensure(self._binaries, _USER, sync=self._settings.get("fsync") != "off")
            self._password = self._cluster.password
            await self._run(self._binaries)
            await self._ensure_database()
        except (OSError, asyncpg.PostgresError) as error:
            await self.stop()
            raise DevPostgresError(f"cannot run PostgreSQL in {self._cluster.home}: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> int:
        """Wait until the server has ended, and return its exit code; a signal's number is negative."""
        if self._server is None:
            raise DevPostgresError("the embedded PostgreSQL is not running")
        return await asyncio.to_thread(self._server.wait)

    async def stop(self) -> None:
        """Stop the server by ever stronger signals; do nothing if none runs."""
        if server := self._server:
            for number, max_seconds in _STOP_SIGNALS:
                server.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(server.wait, max_seconds)
                    break
        self._server = None
        self._cluster.release()

    def _usable_binaries(self) -> Binaries:
        made_by = self._cluster.major
        binaries = self._binaries or Binaries.find(made_by)
        if made_by not in (None, binaries.major):
            raise self._cluster.made_by_another(binaries.major)
        return binaries if os.geteuid() != 0 else binaries.within_reach_of(self._cluster.account)

    async def _run(self, binaries: Binaries) -> None:
        """Start `postgres`; start it again if its port was taken or processes of a killed server remain."""
        until = time.monotonic() + _MAX_START_SECONDS
        while True:
            self._port = self._free_port()
            server = self._server = self._spawn(binaries)
            while server.poll() is None:
                if self._ready():
                    self._cluster.name_user(server.pid)
                    self._cluster.write("port", str(self._port))
                    return
                if time.monotonic() > until:
                    raise DevPostgresError(
                        f"PostgreSQL is not ready after {_MAX_START_SECONDS:g} s:\n{self._log_end()}"
                    )
                await asyncio.sleep(0.01)
            log = self._log_end()
            if time.monotonic() > until or not re.search("could not bind|is still in use", log):
                raise DevPostgresError(f"PostgreSQL exited with {server.returncode}:\n{log}")
            await asyncio.sleep(0.1)

    def _spawn(self, binaries: Binaries) -> "subprocess.Popen[bytes]":
        settings = self._settings | {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "logging_collector": "off",
        }
        command = [str(binaries.directory / "postgres"), "-D", str(self._cluster.directory)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._cluster.write("log", "")
        with (self._cluster.home / "log").open("ab") as log:
            return spawn(command, self._cluster.account, log.fileno())

    def _ready(self) -> bool:
        """Ask our own server's status file: another server may answer on the port."""
        lines = self._cluster.lines("cluster/postmaster.pid")
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _free_port(self) -> int:
        """Return the port of the last run, or another one if that is taken."""
        for port in *map(int, self._cluster.lines("port")), 0:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
        raise DevPostgresError("no free port on 127.0.0.1")

    def _log_end(self) -> str:
        return "\n".join(self._cluster.lines("log")[-_LOG_LINES:])

    async def _ensure_database(self) -> None:
        connection = await asyncpg.connect(self.url_for("postgres"), ssl=False, timeout=_MAX_START_SECONDS)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", _USER):
                await connection.execute(f"CREATE DATABASE {_USER}")
        finally:
            await connection.close()
