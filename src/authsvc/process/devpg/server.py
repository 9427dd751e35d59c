"""The server process: its cluster, its port, its start and its end."""

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import asyncpg

from authsvc.process.devpg.account import reaches, roots_place, unprivileged
from authsvc.process.devpg.binaries import Binaries, output_of
from authsvc.process.devpg.child import spawn
from authsvc.process.devpg.error import DevPostgresError

_log = logging.getLogger(__name__)

_USER = "authsvc"  # the superuser, and the database that start() makes
_READY_WITHIN = 60.0
_PREDECESSOR_WITHIN = 10.0


class DevPostgres:
    """One PostgreSQL server on one data directory; `async with` starts and stops it.

    The same object can start again after `stop()` and after a crash of the server. The `settings` are
    parameters of PostgreSQL; those that say where it listens are ours.
    """

    def __init__(
        self, data_dir: Path, *, settings: Mapping[str, str] = {}, binaries: Binaries | None = None
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._settings = dict(settings)
        self._binaries = binaries
        self._home = self._data_dir  # elsewhere only if root's server cannot reach the data directory
        self._account = (os.geteuid(), os.getegid())
        self._lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._password = ""
        self._port = 0

    @property
    def url(self) -> str:
        """The URL of the database `authsvc`, for its superuser; it holds the password."""
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
        """Start the server, making the cluster if there is none, and return when it takes connections."""
        if self._server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # the news of a crash takes a moment
                await asyncio.to_thread(self._server.wait, 1.0)
            if self._server.returncode is None:
                raise DevPostgresError(f"{self._data_dir} is already in use by process {self.pid}")
        try:
            self._claim()
            self._binaries = await asyncio.to_thread(self._usable_binaries)
            await self._outlive_predecessor()
            await self._ensure_cluster(self._binaries)
            await self._run(self._binaries)
            await self._ensure_database()
        except (OSError, asyncpg.PostgresError) as error:
            await self.stop()
            raise DevPostgresError(f"cannot run PostgreSQL in {self._home}: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> int:
        """Wait until the server has ended, and return its exit code; a signal's number is negative."""
        if self._server is None:
            raise DevPostgresError("the embedded PostgreSQL is not running")
        return await asyncio.to_thread(self._server.wait)

    async def stop(self) -> None:
        """Stop the server: fast, then hard if it does not go. Does nothing if none runs."""
        if server := self._server:
            for signum, patience in (signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0):
                server.send_signal(signum)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(server.wait, patience)
                    break
        self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _claim(self) -> None:
        """Lock the data directory, and settle where the cluster lives and who runs it."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self._data_dir.iterdir()) and not (self._data_dir / "lock").exists():
            raise DevPostgresError(f"{self._data_dir} holds other things than a database of authsvc")
        if self._lock is None:
            lock = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 20, 0).decode()
                os.close(lock)
                raise DevPostgresError(f"{self._data_dir} is already in use by process {holder}") from None
            self._lock = lock
            self._note_holder(os.getpid())
        self._data_dir.chmod(0o700)
        if os.geteuid() == 0:
            self._settle_for_root()
            os.fchown(self._lock, *self._account)

    def _note_holder(self, pid: int) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(pid).encode(), 0)

    def _settle_for_root(self) -> None:
        owner = self._data_dir.stat()
        if owner.st_uid != 0:  # the account of an earlier start, or the user for whom root acts
            self._home, self._account = self._data_dir, (owner.st_uid, owner.st_gid)
            return
        self._account = unprivileged()
        pointer = self._data_dir / "moved-to"
        if home := _lines(pointer):
            self._home = Path(home[0])
            if not self._home.is_dir():
                raise DevPostgresError(
                    f"{self._home}, which {pointer} names, is gone; remove {self._data_dir}"
                )
        elif reaches(self._account, self._data_dir.parent):
            self._home = self._data_dir
        else:  # the parents of the data directory stay as private as they are
            self._home = Path(tempfile.mkdtemp(prefix="postgres-", dir=roots_place()))
            pointer.write_text(f"{self._home}\n", encoding="utf-8")
        if self._home != self._data_dir:
            _log.info("%s is out of reach for PostgreSQL: its data are in %s", self._data_dir, self._home)
        os.chown(self._home, *self._account)

    def _usable_binaries(self) -> Binaries:
        binaries = self._binaries or Binaries.find()
        return binaries if os.geteuid() != 0 else binaries.within_reach_of(self._account)

    async def _outlive_predecessor(self) -> None:
        """Let the server of a killed process end, and forget one that is long gone.

        PostgreSQL takes any process with the old number for a server, and would refuse for ever.
        """
        until = time.monotonic() + _PREDECESSOR_WITHIN
        pid_file = self._home / "cluster" / "postmaster.pid"
        while pid := _live_postmaster(pid_file):
            if time.monotonic() > until:
                raise DevPostgresError(f"{self._data_dir} is already in use by process {pid}")
            await asyncio.sleep(0.02)
        pid_file.unlink(missing_ok=True)

    async def _ensure_cluster(self, binaries: Binaries) -> None:
        cluster, password = self._home / "cluster", self._home / "password"
        if not cluster.exists():
            _log.info("initializing PostgreSQL in %s", self._home)
            self._write("password", secrets.token_urlsafe(24))
            fresh = await asyncio.to_thread(self._initdb, binaries, password)
            fresh.rename(cluster)  # only a whole cluster gets the name
        self._password = password.read_text(encoding="ascii")

    def _initdb(self, binaries: Binaries, password: Path) -> Path:
        for interrupted in self._home.glob("initdb-*"):
            shutil.rmtree(interrupted, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="initdb-", dir=self._home))
        os.chown(fresh, *self._account)
        command = [str(binaries.directory / "initdb"), "-D", str(fresh), "-U", _USER, f"--pwfile={password}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        if binaries.major >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._settings.get("fsync") == "off":
            command.append("--no-sync")
        initdb = spawn(command, self._account, subprocess.PIPE)
        output = initdb.communicate()[0].decode(errors="replace")
        if initdb.returncode != 0:
            raise DevPostgresError(f"initdb exited with {initdb.returncode}:\n{output[-2000:]}")
        return fresh

    async def _run(self, binaries: Binaries) -> None:
        """Start `postgres`; again, if its port was snatched or the children of a killed server linger."""
        until = time.monotonic() + _READY_WITHIN
        while True:
            self._port = self._free_port()
            settings = self._settings | {
                "listen_addresses": "127.0.0.1",
                "port": str(self._port),
                "unix_socket_directories": "",
                "logging_collector": "off",
            }
            command = [str(binaries.directory / "postgres"), "-D", str(self._home / "cluster")]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            self._write("log", "")
            with (self._home / "log").open("ab") as log:
                self._server = spawn(command, self._account, log.fileno())
            while self._server.poll() is None:
                if self._ready():
                    self._note_holder(self._server.pid)
                    self._write("port", str(self._port))
                    return
                if time.monotonic() > until:
                    raise DevPostgresError(f"PostgreSQL is not ready in {_READY_WITHIN} s:\n{self._tail()}")
                await asyncio.sleep(0.01)
            if time.monotonic() > until or not re.search("could not bind|is still in use", self._tail()):
                raise DevPostgresError(f"PostgreSQL exited with {self._server.returncode}:\n{self._tail()}")
            await asyncio.sleep(0.1)

    def _ready(self) -> bool:
        """Ask our own server's status file: whoever answers on the port may be another server."""
        lines = _lines(self._home / "cluster" / "postmaster.pid")
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _free_port(self) -> int:
        for port in *map(int, _lines(self._home / "port")), 0:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
        raise DevPostgresError("no free port on 127.0.0.1")

    def _write(self, name: str, text: str) -> None:
        """Replace a private file; as root, never through a link that the account may have laid there."""
        scratch = self._home / f"{name}.new"
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchown(file.fileno(), *self._account)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._home / name)

    def _tail(self) -> str:
        return "\n".join(_lines(self._home / "log")[-20:])

    async def _ensure_database(self) -> None:
        connection = await asyncpg.connect(self.url_for("postgres"), ssl=False, timeout=_READY_WITHIN)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", _USER):
                await connection.execute(f"CREATE DATABASE {_USER}")
        finally:
            await connection.close()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _live_postmaster(pid_file: Path) -> int | None:
    """Return the pid in the file, if the arguments of that process name this very cluster."""
    pid = (_lines(pid_file) or [""])[0]
    if not pid.isdecimal():
        return None
    if sys.platform == "linux":
        arguments = " ".join(_lines(Path("/proc", pid, "cmdline"))).split("\0")
    else:
        arguments = output_of("ps", "-o", "command=", "-p", pid).split()
    return int(pid) if str(pid_file.parent) in arguments else None
