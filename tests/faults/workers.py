"""Several worker processes on one database, each at its own port, and the faults that can be caused."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import Settings
from authsvc.keys.token_keys import new_token_key
from tests.conftest import Client
from tests.e2e import forks
from tests.e2e.process import environment, eventually

_CHECKOUT = Path(__file__).parent.parent.parent
# A client finds a worker that has come back at once.
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]


def is_stopped(pid: int) -> bool:
    """Return whether SIGSTOP holds a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Worker:
    """One worker: its process, and the place of one that died."""

    def __init__(self, number: int, directory: Path, database_url: str, settings: dict[str, object]) -> None:
        self.name = f"worker {number}"
        self.wall_clock = 0.0
        self.command: tuple[str, ...] = ()  # what it is started with
        self.host = "127.0.0.1"
        self.starts = 0
        self._predecessors: tuple[str, ...] = ()
        self._home = directory / f"worker-{number}"
        self._directory = self._home
        self.directory = directory
        self.settings = {"database_url": database_url, **settings}
        self._process: subprocess.Popen[bytes] | forks.Process | None = None
        self._channel: grpc.aio.Channel | None = None

    @property
    def process(self) -> "subprocess.Popen[bytes] | forks.Process":
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def channel(self) -> grpc.aio.Channel:
        assert self._channel is not None, f"{self.name} does not serve yet"
        return self._channel

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"{self.host}:{self._told('port')}"

    @property
    def serves(self) -> bool:
        """Whether it has a port that clients know."""
        return self._channel is not None

    @property
    def registrations(self) -> list[str]:
        """The ids that this process has registered under, the latest last."""
        return self._told("registered").split()

    @property
    def log(self) -> str:
        """The log of all its processes."""
        return "".join(path.read_text("utf-8") for path in sorted(self._home.glob("*/stderr")))

    @property
    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return is_stopped(self.process.pid)

    async def start(self, *, predecessors: tuple[str, ...] = ()) -> None:
        """Start the process, and return when it serves."""
        self.launch(predecessors=predecessors)
        await self.ready()

    def launch(self, *, predecessors: tuple[str, ...] = ()) -> None:
        """Start the process."""
        self._predecessors = predecessors
        self.starts += 1
        self._directory = self._home / str(self.starts)
        self._directory.mkdir(parents=True)
        given = environment(**{"listen": f"{self.host}:0", **self.settings})
        given["FAULTS_PREDECESSORS"] = " ".join(predecessors)
        given["FAULTS_WALL_CLOCK"] = str(self.wall_clock)
        with (self._directory / "stderr").open("wb") as stderr:
            # A wrong clock has to be wrong before anything is imported.
            if self.command or self.wall_clock:
                self._process = subprocess.Popen(
                    [*self.command, sys.executable, "-m", "tests.faults.worker", str(self._directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    cwd=_CHECKOUT,
                    env=given,
                )
            else:
                self._process = forks.start(
                    "tests.faults.worker", str(self._directory), cwd=_CHECKOUT, env=given, stderr=stderr
                )

    async def ready(self) -> None:
        """Wait until it serves."""

        def serves() -> bool:
            if self.process.poll() is not None:
                # On a busy machine a quarter of a short lease may not suffice. Supervisors try again, too.
                passing = "authsvc.model.errors.Unavailable" in self._told("stderr")
                assert passing, f"{self.name} exited:\n{self.log}"
                (self._directory / "stderr").unlink()
                self.launch(predecessors=self._predecessors)
            return bool(self._told("port"))

        await eventually(serves, 60)
        self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL)
        await asyncio.wait_for(self._channel.channel_ready(), 30)

    async def kill(self) -> None:
        """SIGKILL: its registration is not removed."""
        channel, self._channel = self._channel, None
        self.process.kill()
        await asyncio.to_thread(self.process.wait, 30)
        if channel is not None:
            # Calls in flight notice it by the broken connection, as any client does.
            await channel.close(grace=10)

    async def end(self) -> None:
        """Stop it cleanly; a stopped one continues first."""
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            for order in ("hold-read", "hold-proof"):
                self.order(order, on=False)
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, 20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def use_database(self, url: str) -> None:
        """Make it use this proxy to the database from its next start on."""
        self.settings["database_url"] = url

    def stop_at(self, stage: str) -> None:
        """Make it stop itself when it reaches a stage."""
        (self._directory / f"stop-{stage}").touch()

    async def stopped(self) -> None:
        """Wait until it has stopped itself."""
        await eventually(lambda: self.is_stopped, 20)

    async def stop(self) -> None:
        """SIGSTOP, wherever it is."""
        self.process.send_signal(signal.SIGSTOP)
        await self.stopped()

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def order(self, name: str, *, on: bool = True) -> None:
        """Give one of the orders that `tests.faults.worker` lists, or withdraw it."""
        if on:
            (self._directory / name).touch()
        else:
            (self._directory / name).unlink(missing_ok=True)

    @property
    def held(self) -> list[str]:
        """The places where fills are paused, one each."""
        return self._told("held").split()

    @property
    def feed_pid(self) -> int:
        """The process id of PostgreSQL's end of its feed connection."""
        return int(self._told("feed-pid") or 0)

    @property
    def believed_time(self) -> str:
        """The time on its wall clock when it was ready."""
        return self._told("wall-clock")

    def _told(self, name: str) -> str:
        try:
            return (self._directory / name).read_text("utf-8")
        except FileNotFoundError:
            return ""


class Fleet:
    """Workers that serve one database, and an administrator's key."""

    def __init__(
        self, directory: Path, database_url: str, admin_key: str, lease: float, settings: dict[str, object]
    ) -> None:
        self.database_url = database_url
        self.lease = lease
        self.workers: list[Worker] = []
        self.admin_key = admin_key
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        token_key = directory / "token.key"
        token_key.write_text(new_token_key())
        #: With which workers sign tokens.
        self.token_settings = {"token_keys_file": token_key, "token_issuer": "https://auth.example"}
        self._settings = {
            "lease": lease,
            "database_pool_size": 6,
            "argon2_threads": 1,
            "drain_grace": 1,
            "log_format": "json",
            "scopes": "*",
            # Network namespaces have no loopback between them.
            "insecure": "plaintext-beyond-loopback",
            **self.token_settings,
            **settings,
        }

    @property
    def serving(self) -> list[Worker]:
        """The workers that clients know."""
        return [worker for worker in self.workers if worker.serves]

    def add(self, *, database_url: str = "", **settings: object) -> Worker:
        """Return a new worker, not started yet."""
        given = {**self._settings, **settings}
        worker = Worker(len(self.workers), self._directory, database_url or self.database_url, given)
        self.workers.append(worker)
        return worker

    def client(self, worker: Worker) -> Client:
        """Return an administrator that calls this worker."""
        return Client(worker.channel, self.admin_key)

    async def end(self) -> None:
        """Stop all workers."""
        await asyncio.gather(*(worker.end() for worker in self.workers))

    async def sql(self, statement: str, *given: object) -> list[asyncpg.Record]:
        """Query the database directly, not through a worker."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(statement, *given))
        finally:
            await connection.close()

    async def gone(self, registration: str, seconds: float = 20) -> None:
        """Wait until a registration was removed."""
        deadline = time.monotonic() + seconds
        while await self.sql("SELECT FROM authsvc.workers WHERE worker_id = $1::text::uuid", registration):
            assert time.monotonic() < deadline, f"{registration} is still registered"
            await asyncio.sleep(0.05)

    def waits(self) -> dict[int, float]:
        """Return for how many seconds this process and the workers have waited for a CPU, by process id."""
        found = {}
        for pid in (os.getpid(), *(worker.process.pid for worker in self.workers if worker.starts)):
            # Linux reports it; elsewhere, and for a process that has died, nothing is known.
            with suppress(OSError):
                waited = Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]
                found[pid] = int(waited) / 1e9
        return found

    def held_up(self, since: Mapping[int, float]) -> float:
        """Return the longest delay by the machine of a call that began when the waits were these."""
        return sum(waited - since.get(pid, 0.0) for pid, waited in self.waits().items())

    def faults(self) -> list[str]:
        """Return the log lines that report a fault of the product."""
        signs = ("Traceback", "a fault in", "unexpected error in", "never awaited", "never retrieved")
        return [
            f"{worker.name}: {line[:2000]}"
            for worker in self.workers
            for line in worker.log.splitlines()
            if any(sign in line for sign in signs)
        ]


@asynccontextmanager
async def fleet(
    directory: Path,
    database_url: str,
    *,
    workers: int = 3,
    lease: float = 1.0,
    arrange: Callable[[Fleet], object] = lambda _: None,
    **settings: object,
) -> AsyncIterator[Fleet]:
    """Run workers on a migrated database while the block runs.

    `arrange` may change workers, or add some, before any is started.
    """
    given = Settings(database_url=SecretStr(database_url))  # type: ignore[call-arg]
    async with app.administering(given) as keys:
        minted = await keys.ensure_administrator(another=True)
    assert minted is not None
    running = Fleet(directory, database_url, minted.text, lease, settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(running.end)
        for _ in range(workers):
            running.add()
        arrange(running)
        for worker in running.workers:
            worker.launch()
        await asyncio.gather(*(worker.ready() for worker in running.workers))
        yield running
