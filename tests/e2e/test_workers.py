"""A supervisor and its workers: they share the port, replace each other, and always end together.

The workers are known from the database, in which their replica registers with their process ids.
"""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import grpc
import pytest

from tests.conftest import Client
from tests.e2e.process import (
    Server,
    authsvc,
    creates_held,
    environment,
    eventually,
    free_port,
    on_linux,
    processes_in,
    running,
    running_as,
    until,
)

# The errors of calls when the database is starved.
STARVED = "out of reach", "did not answer in time", "kept the database busy", "were in use"
# The retry policy for clients. It lasts longer than the second that gRPC waits before it reconnects.
RETRYING = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "authsvc.v1.KeyService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
AUTHSVC = ("-m", "authsvc.cli")
# A supervisor with the same rules and shorter waits. Healthy workers are in time even on a busy machine.
HASTY = (
    "-c",
    "from authsvc.process import supervisor; "
    "supervisor._MAX_CLEANUP_SECONDS = supervisor._MAX_START_SECONDS = 8.0; "
    "from authsvc.cli import main; main()",
)


@dataclass
class Pack:
    """A running service of several workers on a database that the test can read."""

    server: Server
    database: "asyncpg.Connection[asyncpg.Record]"

    async def registrations(self) -> dict[UUID, int]:
        """Return the ids of the registrations, and which processes registered them."""
        rows = await self.database.fetch("SELECT worker_id, pid FROM authsvc.workers")
        return {row["worker_id"]: row["pid"] for row in rows}

    async def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        rows = await self.database.fetch("SELECT unnest(worker_pids) AS pid FROM authsvc.workers")
        return sorted(row["pid"] for row in rows)

    def signal(self, number: int) -> None:
        self.server.process.send_signal(number)

    def told(self, text: str) -> int:
        """Return how often the log contains a text."""
        return self.server.stderr.count(text)

    async def tells(self, text: str, times: int = 1) -> None:
        """Wait until the log contains a text this often."""
        deadline = time.monotonic() + 30
        while self.told(text) < times:
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.server.stderr}"
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def client(self, config: str = RETRYING) -> AsyncIterator[Client]:
        """Yield a client with a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", config)]
        async with grpc.aio.insecure_channel(self.server.address, options=options) as channel:
            yield Client(channel, self.server.admin_key)

    async def serves(self) -> None:
        """Check that new connections are served."""
        for _ in range(8):
            async with self.client() as admin:
                await admin.ListKeys(owner_id="acme")

    async def until(self, holds: Callable[[list[int]], bool]) -> list[int]:
        """Wait until the registered workers are as expected, and return them."""
        deadline = time.monotonic() + 30
        while not holds(pids := await self.pids()):
            assert time.monotonic() < deadline, (pids, self.server.stderr)
            await asyncio.sleep(0.02)
        return pids


@asynccontextmanager
async def pack(
    directory: Path,
    database_url: str,
    workers: int = 2,
    *,
    program: Sequence[str] = AUTHSVC,
    **settings: object,
) -> AsyncIterator[Pack]:
    (directory / "data").mkdir(exist_ok=True)
    database = await asyncpg.connect(database_url)
    try:
        given = {"database_url": database_url, "workers": workers, **settings}
        with running_as(program, "dev", directory, **given) as server:
            yield Pack(server, database)
    finally:
        await database.close()


def alive(pids: Collection[int]) -> list[int]:
    """Return the running processes; zombies do not count."""
    found = []
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/stat").read_text("utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if status.rpartition(")")[2].split()[0] not in "ZX":
            found.append(pid)
    return found


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = (process / "stat").read_text("utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(status.rpartition(")")[2].split()[1]) == pid:
            found.append(int(process.name))
    return found


async def test_all_workers_get_connections(directory: Path, database_url: str) -> None:
    """Connections to the one port are spread over all workers, and each has its own metrics."""
    metrics = f"127.0.0.1:{free_port()}"
    async with pack(directory, database_url, workers=3, admin_listen=metrics) as on:
        assert len(await on.pids()) == 3
        calls = 0
        while not all(on.server.metric('authsvc_rpc_seconds_count{method="ListKeys"}', n) for n in range(3)):
            assert calls < 300
            async with on.client() as admin:
                await admin.ListKeys(owner_id="acme")
            calls += 1
        counts = [on.server.metric('authsvc_rpc_seconds_count{method="ListKeys"}', n) for n in range(3)]
        assert sum(counts) == calls
        assert on.server.end() == 0
        assert {f'"worker": {n}' in on.server.stderr for n in range(3)} == {True}


@on_linux
async def test_the_supervisor_has_one_thread_and_its_children_none_of_its_pipes(
    directory: Path, database_url: str
) -> None:
    """Forking is safe in a process with one thread; a pipe that another child keeps open would never end."""
    async with pack(directory, database_url, workers=3) as on:
        supervisor = on.server.process.pid
        assert threads(supervisor) == 1
        os.kill((await on.pids())[0], signal.SIGKILL)
        await on.until(lambda pids: len(set(pids)) == 3 and all(alive([pid]) for pid in pids))
        await on.tells("serves again")
        assert threads(supervisor) == 1
        ours = set(pipes(supervisor))
        shared = [set(pipes(child)) & ours for child in children(supervisor)]
        # The lifeline, which all children have, and the pipes for its own reports and its standard
        # error. The database, the follower and the notifier are children, too.
        assert [len(links) for links in shared] == [3] * 6
        assert len(set.intersection(*shared)) == 1


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def pipes(pid: int) -> list[str]:
    """Return the open pipes of a process, except for those that it started with."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            link = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if link.startswith("pipe:") and link not in inherited():
            found.append(link)
    return found


def inherited() -> set[str]:
    """Return the pipes of this process, which its child processes may inherit."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return found


async def test_a_killed_worker_is_replaced(directory: Path, database_url: str) -> None:
    """The others keep serving, and a new one replaces it under the same registration."""
    async with pack(directory, database_url, workers=2, lease=600) as on:
        before, registrations = await on.pids(), await on.registrations()
        os.kill(before[0], signal.SIGKILL)
        await on.serves()
        await on.tells("serves again")
        now = await on.until(lambda pids: len(pids) == 2 and before[0] not in pids)
        assert before[1] in now
        assert await on.registrations() == registrations
        assert len(registrations) == 1
        assert (
            len(re.findall(r"worker \d has ended: SIGKILL; another one starts\b(?! in)", on.server.stderr))
            == 1
        )
        await on.serves()


async def test_workers_that_die_at_their_start_start_ever_less_often(
    directory: Path, database_url: str
) -> None:
    """Each death is logged with its reason; the waits double; without the cause, the service recovers."""
    async with pack(directory, database_url, workers=2) as on:
        pids = await on.pids()
        await on.database.execute("ALTER TABLE authsvc.migrations RENAME TO gone")
        os.kill(pids[0], signal.SIGKILL)
        await on.tells("another one starts in 0.4 s")
        # Read once, since they keep dying.
        told = on.server.stderr
        assert told.count("the database lacks 0001 keys") == told.count("another one starts in") >= 3
        assert told.count("starts in 0.1 s") == told.count("starts in 0.2 s") == 1
        assert alive([pids[1]])
        await on.database.execute("ALTER TABLE authsvc.gone RENAME TO migrations")
        await on.tells("serves again")
        await on.serves()
        assert on.server.end() == 0
        assert on.told("Traceback") == 0


async def test_a_rolling_restart_loses_no_call(directory: Path, database_url: str) -> None:
    """Clients that retry UNAVAILABLE see no failure; others see only UNAVAILABLE."""
    patient: Counter[object] = Counter()
    plain: Counter[object] = Counter()
    stop = asyncio.Event()

    async def load(client: Client, key_string: str, outcomes: Counter[object]) -> None:
        while not stop.is_set():
            try:
                assert (await client.VerifyKey(key_string=key_string)).valid
                await client.ListKeys(owner_id="acme")
            except grpc.aio.AioRpcError as error:
                # Errors of a database that is starved by other processes are not caused by the restart.
                starved = any(words in (error.details() or "") for words in STARVED)
                outcomes["starved" if starved else (error.code(), error.details())] += 1
                await asyncio.sleep(0.01)
            else:
                outcomes["ok"] += 1

    async def loading(key_string: str, config: str, outcomes: Counter[object]) -> None:
        async with on.client(config) as client:
            await asyncio.gather(*(load(client, key_string, outcomes) for _ in range(4)))

    async with pack(directory, database_url, workers=2) as on:
        async with on.client() as admin:
            key_string = (await admin.CreateKey(owner_id="acme", display_name="Orders")).key_string
        clients = [loading(key_string, RETRYING, patient) for _ in range(4)]
        clients += [loading(key_string, "{}", plain) for _ in range(4)]
        under_load = asyncio.gather(*clients)
        await eventually(lambda: patient["ok"] > 100 and plain["ok"] > 100)
        while on.told("the rolling restart is done") < 4:
            before, ended = await on.pids(), on.told("the rolling restart ")
            on.signal(signal.SIGHUP)
            await on.tells("the rolling restart ", ended + 1)
        assert not set(before) & set(await on.pids())
        served = patient["ok"], plain["ok"]
        await eventually(lambda: patient["ok"] > served[0] + 100 and plain["ok"] > served[1] + 100)
        stop.set()
        await under_load
        assert set(patient) - {"starved"} == {"ok"}
        assert {outcome[0] for outcome in plain if isinstance(outcome, tuple)} <= {
            grpc.StatusCode.UNAVAILABLE
        }
        assert on.told("did not stop cleanly") == 0
        assert on.server.end() == 0


async def test_a_restart_that_fails_leaves_the_old_workers(directory: Path, database_url: str) -> None:
    """It logs why it stopped; all keep serving; the next one succeeds once the fault is gone."""
    async with pack(directory, database_url, workers=2) as on:
        before = await on.pids()
        await on.database.execute("ALTER TABLE authsvc.migrations RENAME TO gone")
        on.signal(signal.SIGHUP)
        await on.tells("the rolling restart has stopped")
        assert on.told("the database lacks 0001 keys") == 1
        assert await on.pids() == before == sorted(alive(before))
        await on.database.execute("ALTER TABLE authsvc.gone RENAME TO migrations")
        on.signal(signal.SIGHUP)
        await on.tells("the rolling restart is done")
        await on.until(lambda pids: len(pids) == 2 and not set(pids) & set(before))
        await on.serves()


async def test_deaths_in_a_rolling_restart(directory: Path, database_url: str) -> None:
    """If any process, old or new, is killed during a restart, all workers serve in the end."""
    async with pack(directory, database_url, workers=3) as on:
        for turn in range(6):
            begun = on.told("a rolling restart of")
            on.signal(signal.SIGHUP)
            await on.tells("a rolling restart of", begun + 1)
            for pid in sorted(children(on.server.process.pid))[turn % 4 : turn % 4 + 2]:
                # The first child is that of the database, whose death ends everything.
                if pid in await on.pids():
                    # A replaced worker may have ended by now.
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        on.signal(signal.SIGHUP)
        await on.until(lambda pids: len(pids) == 3 and alive(pids) == pids)
        await on.serves()
        assert on.server.end() == 0
        assert on.told("Traceback") == 0


async def test_a_hundred_requests_to_restart(directory: Path, database_url: str) -> None:
    """They are one restart and at most one after it."""
    async with pack(directory, database_url, workers=2) as on:
        before = await on.pids()
        for _ in range(100):
            on.signal(signal.SIGHUP)
        await on.until(lambda pids: len(pids) == 2 and not set(pids) & set(before))
        await eventually(lambda: on.told("restart is done") == on.told("a rolling restart of") > 0)
        assert on.told("a rolling restart of") <= 100
        await on.serves()
        assert on.server.end() == 0


@on_linux
async def test_a_kill_of_the_supervisor_leaves_nobody(directory: Path) -> None:
    """Its workers and its PostgreSQL notice this and end."""
    with running("dev", directory, workers=3) as server:
        family = children(server.process.pid)
        assert len(family) == 6  # workers, the follower, the notifier, the database
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not alive(family))
        assert processes_in(server.cluster) == []
        assert server.stderr.count("draining") == 3


@on_linux
async def test_a_dead_database_process_ends_all(directory: Path) -> None:
    """Without its PostgreSQL, `authsvc dev` ends with an error."""
    with running("dev", directory, workers=2) as server:
        family = children(server.process.pid)
        [keeper] = [pid for pid in family if children(pid)]
        os.kill(keeper, signal.SIGKILL)
        assert server.process.wait(30) == 1
        assert server.stderr.rstrip().endswith("authsvc: the process of the database has ended: SIGKILL")
        assert alive(family) == []
        until(lambda: not processes_in(server.cluster))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_all_workers_drain_together(directory: Path, database_url: str, number: int) -> None:
    """Each of them logs it, none is left, and the exit code is 0."""
    async with pack(directory, database_url, workers=3) as on:
        family = children(on.server.process.pid)
        assert on.server.end(number) == 0
        assert alive(family) == []
        assert on.told("draining") == 3
        assert await on.pids() == []
        assert on.told("Traceback") == 0


async def test_ctrl_c_reaches_the_whole_group(directory: Path, database_url: str) -> None:
    """As from a terminal: the workers leave it to the supervisor, and drain."""
    async with pack(directory, database_url, workers=2) as on:
        for pid in (*children(on.server.process.pid), on.server.process.pid):
            os.kill(pid, signal.SIGINT)
        assert on.server.process.wait(30) == 0
        assert on.told("draining") == 2
        assert on.told("Traceback") == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_ends_it_at_once(
    directory: Path, database_url: str, number: int, code: int
) -> None:
    """Also while a call without a deadline is in flight."""
    locker = await asyncpg.connect(database_url)
    async with pack(directory, database_url, workers=2, drain_grace=300) as on, on.client("{}") as admin:
        family = children(on.server.process.pid)
        await admin.ListKeys(owner_id="acme")
        async with creates_held(locker):
            call = asyncio.ensure_future(admin.CreateKey(owner_id="acme", display_name="Orders"))
            await waiters(on.database, 1)
            on.signal(number)
            await on.tells("draining", 2)
            assert not call.done()
            on.signal(number)
            assert await asyncio.to_thread(on.server.process.wait, 3) == code
            assert alive(family) == []
            with pytest.raises(grpc.aio.AioRpcError) as lost:
                await call
            assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
    await locker.close()


async def test_a_worker_that_does_not_end_is_killed(directory: Path, database_url: str) -> None:
    """A frozen worker cannot drain; the stop waits for as long as a drain may take, and is logged."""
    async with pack(directory, database_url, workers=2, program=HASTY, drain_grace=0) as on:
        frozen, _ = await on.pids()
        os.kill(frozen, signal.SIGSTOP)
        assert on.server.end() == 0
        assert alive([frozen]) == []
        assert on.told("has not ended in time and is killed") == 1
        assert on.told("did not stop cleanly: SIGKILL") == 1


async def test_a_worker_that_is_never_ready_stops_the_restart(directory: Path, database_url: str) -> None:
    """A new worker that hangs at its start is killed, and its predecessor keeps serving."""
    async with pack(directory, database_url, workers=2, program=HASTY) as on:
        before, family = await on.pids(), children(on.server.process.pid)
        locker = await asyncpg.connect(database_url)
        async with locker.transaction():
            await locker.execute("LOCK TABLE authsvc.migrations IN ACCESS EXCLUSIVE MODE")
            on.signal(signal.SIGHUP)
            await waiters(on.database, 1)
            # By default it would cancel the statement before its time is over.
            [hanging] = set(children(on.server.process.pid)) - set(family)
            os.kill(hanging, signal.SIGSTOP)
            await on.tells("the rolling restart has stopped")
            assert on.told("is not ready in time and is killed") == 1
        await locker.close()
        assert sorted(alive(before)) == before
        await on.serves()


@on_linux
async def test_a_stop_while_the_database_is_made(directory: Path) -> None:
    """It leaves no process of PostgreSQL, and the next start is not affected."""
    process = start("dev", directory, workers=2)
    await eventually(lambda: "initializing" in (directory / "stderr").read_text("utf-8"))
    family = children(process.pid)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 0
    assert alive(family) == processes_in(directory / "data") == []
    assert "Traceback" not in (directory / "stderr").read_text("utf-8")
    with running("dev", directory) as server:
        assert server.run("keys", "list", "acme").code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_during_the_start(directory: Path, database_url: str, number: int) -> None:
    """The start is cancelled cleanly at any point."""
    (directory / "data").mkdir()
    locker = await asyncpg.connect(database_url)
    async with locker.transaction():
        await locker.execute("LOCK TABLE authsvc.migrations IN ACCESS EXCLUSIVE MODE")
        process = start("serve", directory, database_url=database_url, workers=2)
        await waiters(locker, 2)
        family = children(process.pid)
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 30) == 0
        assert alive(family) == []
    await locker.close()
    assert "Traceback" not in (directory / "stderr").read_text("utf-8")


async def test_a_restart_during_the_start_follows_it(directory: Path, database_url: str) -> None:
    """A SIGHUP before all workers serve takes effect when they do."""
    (directory / "data").mkdir()
    locker = await asyncpg.connect(database_url)
    async with locker.transaction():
        await locker.execute("LOCK TABLE authsvc.migrations IN ACCESS EXCLUSIVE MODE")
        process = start("serve", directory, database_url=database_url, workers=2)
        await waiters(locker, 2)
        process.send_signal(signal.SIGHUP)
    await locker.close()
    log = directory / "stderr"
    await eventually(lambda: "the rolling restart is done" in log.read_text("utf-8"))
    told = log.read_text("utf-8")
    assert told.index("serving at") < told.index("a rolling restart of 2 workers begins")
    process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 0


async def waiters(database: "asyncpg.Connection[asyncpg.Record]", number: int) -> None:
    """Wait until this number of sessions wait for a lock in this database."""
    # In a transaction, the activity statistics would not change; the locks do.
    query = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database "
        "WHERE NOT granted AND datname = current_database()"
    )
    deadline = time.monotonic() + 30
    while True:
        if await database.fetchval(query) >= number:
            return
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def start(command: str, directory: Path, **settings: object) -> "subprocess.Popen[bytes]":
    """Start authsvc without waiting until it serves."""
    given = {"listen": "127.0.0.1:0", "data_dir": directory / "data", **settings}
    with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "authsvc.cli", command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            env=environment(**given),
        )


async def test_a_second_service_at_the_port_is_told(directory: Path, database_url: str) -> None:
    """The workers share the port, but other programs cannot."""
    async with pack(directory, database_url, workers=2) as on:
        done = authsvc("serve", cwd=directory, database_url=database_url, listen=on.server.address, workers=2)
        assert done.code == 1
        assert done.stderr.startswith(f"authsvc: cannot listen at {on.server.address} (")
        assert len(await on.pids()) == 2


async def test_a_start_that_fails_says_so_once(directory: Path, database_url: str) -> None:
    """If several workers fail for one reason, it is logged once."""
    url = f"postgresql://authsvc:hunter2@{database_url.partition('@')[2]}"
    done = authsvc("serve", cwd=directory, database_url=url, listen="127.0.0.1:0", workers=3)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.count('password authentication failed for user "authsvc"') == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("value", ["0", "257", "abc", "-1"])
@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_bad_number_of_workers_is_told(directory: Path, command: str, value: str) -> None:
    """On the command line and in the environment, the error has its name, and nothing is started."""
    done = authsvc(command, f"--workers={value}", cwd=directory)
    assert done.code != 0
    assert "--workers" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    done = authsvc(command, cwd=directory, workers=value)
    assert (done.code, done.stderr.partition(":")[2].partition(":")[0].strip()) == (1, "AUTHSVC_WORKERS")
    assert list(directory.iterdir()) == []


async def test_the_command_line_stands_before_the_environment(directory: Path, database_url: str) -> None:
    """`--workers` takes precedence over AUTHSVC_WORKERS."""
    with running("serve", directory, "--workers=2", database_url=database_url, workers=3) as server:
        assert "with 2 workers" in server.stderr


@on_linux
@pytest.mark.parametrize("ignored", [False, True], ids=["as usual", "under nohup"])
async def test_a_closed_terminal_ends_it(directory: Path, database_url: str, ignored: bool) -> None:
    """A service that outlives its terminal could be overlooked, so it must be requested."""
    pid, terminal = pty.fork()
    if not pid:
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with (directory / "stderr").open("wb") as stderr:
            os.dup2(stderr.fileno(), 2)
        settings = {"database_url": database_url, "listen": "127.0.0.1:0", "workers": 2}
        os.execve(  # noqa: S606
            sys.executable, [sys.executable, "-m", "authsvc.cli", "serve"], environment(**settings)
        )
    log = directory / "stderr"
    await eventually(lambda: log.exists() and "serving at" in log.read_text("utf-8"))
    os.close(terminal)
    if ignored:
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGTERM)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert log.read_text("utf-8").count("draining") == 2
