"""authsvc as a process: starts it, reads its output, calls it, signals it and ends it."""

import asyncio
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from tests.conftest import Client
from tests.e2e import forks

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, relies on PR_SET_PDEATHSIG")

# Ports for `free_port`: below the ephemeral ports of the kernel, so that no connection takes a port between
# our check and its use. Test processes that run in parallel have ranges of their own.
_PORTS = itertools.cycle(range(10_000 + os.getpid() % 44 * 500, 10_500 + os.getpid() % 44 * 500))


@dataclass(frozen=True)
class Ended:
    """The result of a program."""

    code: int
    stdout: str
    stderr: str


def environment(**settings: object) -> dict[str, str]:
    """Return our environment with these settings and no other ones."""
    return forks.inherited_environment() | {
        f"AUTHSVC_{name.upper()}": str(value) for name, value in settings.items()
    }


def run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None, stdin: str | None = None
) -> Ended:
    """Run a program to its end."""
    done = subprocess.run(
        command, cwd=cwd, env=env or environment(), input=stdin, capture_output=True, text=True, timeout=60
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def authsvc(*arguments: str, cwd: Path, **settings: object) -> Ended:
    """Run an authsvc command to its end."""
    done = forks.run("authsvc.cli", *arguments, cwd=cwd, env=environment(**settings))
    return Ended(done.returncode, done.stdout, done.stderr)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for a condition outside of this process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


async def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for a condition without blocking the event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def free_port() -> int:
    """Return a port that is free, and that no other process is likely to take soon."""
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("there is no end to a cycle")


def reserve_port(data_dir: Path) -> None:
    """Give a `DevPostgres` that is not created yet a port that stays free while it is down."""
    data_dir.mkdir()
    (data_dir / "lock").touch()
    (data_dir / "port").write_text(str(free_port()), "utf-8")


def processes_in(directory: Path) -> list[int]:
    """Return the processes whose working directory is this one, as with all of PostgreSQL's; no zombies."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            working = (process / "cwd").readlink()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if working.is_relative_to(directory):
            found.append(int(process.name))
    return found


@dataclass
class Server:
    """A running `authsvc dev` or `authsvc serve`."""

    process: "subprocess.Popen[bytes] | forks.Process"
    directory: Path
    settings: dict[str, object] = field(repr=False)
    address: str = ""

    @property
    def stdout(self) -> str:
        return (self.directory / "stdout").read_text("utf-8")

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text("utf-8")

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def admin_key(self) -> str:
        return (self.data_dir / "admin.key").read_text("utf-8").strip()

    @property
    def cluster(self) -> Path:
        return self.data_dir / "postgres" / "cluster"

    def run(self, *arguments: str, **settings: object) -> Ended:
        """Run an authsvc command that calls this service."""
        given = {"data_dir": self.data_dir, "address": self.address, **settings}
        return authsvc(*arguments, cwd=self.directory, **given)

    @asynccontextmanager
    async def client(self, key_string: str = "") -> AsyncIterator[Client]:
        """Yield a client of this service, with the administrator key unless another is given."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            yield Client(channel, key_string or self.admin_key)

    def admin(self, path: str) -> tuple[int, str]:
        """Return the status and the body of a page of the admin listener; wait until it listens."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(
                    f"http://{self.settings['admin_listen']}{path}", timeout=10
                ) as page:
                    return page.status, str(page.read(), "utf-8")
            except urllib.error.HTTPError as error:
                return error.code, str(error.read(), "utf-8")
            except urllib.error.URLError:
                assert time.monotonic() < deadline, "the admin listener does not listen"
                time.sleep(0.01)

    def metrics(self, worker: int = 0) -> str:
        """Return the page of metrics, as soon as a worker is connected."""
        up = f'authsvc_up{{worker="{worker}"}} 1.0'
        deadline = time.monotonic() + 30
        while up not in (page := self.admin("/metrics")[1]):
            assert time.monotonic() < deadline, f"no {up}:\n{page}"
            time.sleep(0.01)
        return page

    def metric(self, name: str, worker: int = 0) -> float:
        """Return one metric of a worker, by its name and its other labels."""
        name, _, given = name.partition("{")
        labels = sorted([*re.findall(r'\w+="[^"]*"', given), f'worker="{worker}"'])
        sample = f"{name}{{{','.join(labels)}}}"
        value = re.search(rf"^{re.escape(sample)} (\S+)$", self.metrics(worker), re.MULTILINE)
        assert value is not None, f"{sample} is not on the page of metrics"
        return float(value[1])

    def end(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def running(command: str, directory: Path, *arguments: str, **settings: object) -> Iterator[Server]:
    """Run `authsvc dev` or `authsvc serve` with its data and output in a directory, on a port of its own.

    By default it has one worker, which is faster.
    """
    start = partial(forks.start, "authsvc.cli", command, *arguments, cwd=directory)
    with _running(start, command, directory, settings) as server:
        yield server


@contextmanager
def running_as(
    program: Sequence[str], command: str, directory: Path, *arguments: str, **settings: object
) -> Iterator[Server]:
    """Run a program in the same way, with these arguments of Python, by Python itself."""
    with running_program((sys.executable, *program), command, directory, *arguments, **settings) as server:
        yield server


@contextmanager
def running_program(
    program: Sequence[str | Path], command: str, directory: Path, *arguments: str, **settings: object
) -> Iterator[Server]:
    """Run a program that may be of another installation in the same way."""
    argv = [*program, command, *arguments]

    def start(**given: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, cwd=directory, **given)

    with _running(start, command, directory, settings) as server:
        yield server


@contextmanager
def _running(
    start: Callable[..., "subprocess.Popen[bytes] | forks.Process"],
    command: str,
    directory: Path,
    settings: dict[str, object],
) -> Iterator[Server]:
    given = {"listen": "127.0.0.1:0", "data_dir": directory / "data", "workers": 1, **settings}
    with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as stderr:
        process = start(stdout=stdout, stderr=stderr, env=environment(**given))
    server = Server(process, directory, given)

    def ready() -> bool:
        assert process.poll() is None, f"exit code {process.returncode}:\n{server.stdout}{server.stderr}"
        told = re.search(r"serv(?:es|ing) at (\S+:\d+)", server.stdout + server.stderr)
        server.address = told[1] if told else ""
        # `authsvc dev` prints the place of the key last.
        return bool(told) and (command == "serve" or "admin.key" in server.stdout)

    try:
        until(ready, 60)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@asynccontextmanager
async def creates_held(locker: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[None]:
    """Block inserts of keys while the block runs, for longer than the service waits for a lock."""
    await locker.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0
            AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$;
        CREATE TRIGGER wait BEFORE INSERT ON authsvc.keys FOR EACH ROW EXECUTE FUNCTION wait();
        """)
    async with locker.transaction():
        await locker.execute("SELECT pg_advisory_xact_lock(7)")
        yield
