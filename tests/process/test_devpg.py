"""The embedded PostgreSQL, on real clusters: what it keeps, what it refuses, what remains after a kill."""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from authsvc.process.devpg import Binaries, DevPostgres, DevPostgresError, kept_running

pytestmark = pytest.mark.slow

FAST = {"fsync": "off"}
ROOT = os.geteuid() == 0
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, relies on PR_SET_PDEATHSIG")
as_root = pytest.mark.skipif(not ROOT, reason="only root has to run PostgreSQL as somebody else")

# Runs a server until it is told to stop; prints the postmaster's pid and the URL.
HOST = """
import asyncio, pathlib, sys
from authsvc.process.devpg import DevPostgres

async def main():
    async with DevPostgres(pathlib.Path(sys.argv[1])) as pg:
        print(pg.pid, pg.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def short_lived() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="authsvc-devpg-")).resolve()
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Create a directory that root's PostgreSQL can reach; pytest's tmp_path is below a private one."""
    with short_lived() as directory:
        yield directory


@pytest.fixture
def new_dir(reachable: Path) -> Path:
    return reachable / "made" / "postgres"


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """Share one data directory, since initdb is slow; each test has its own servers on it."""
    with short_lived() as directory:
        yield directory / "postgres"


@pytest.fixture
async def pg(data_dir: Path) -> AsyncIterator[DevPostgres]:
    async with DevPostgres(data_dir, settings=FAST) as server:
        yield server


@contextlib.contextmanager
def hosting(
    data_dir: Path, python: str = sys.executable, account: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [python, "-c", HOST, data_dir],
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=ENVIRONMENT,
        user=account,
        group=account and pwd.getpwuid(account).pw_gid,
        extra_groups=[] if account else None,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def greeting(process: "subprocess.Popen[str]") -> tuple[int, str]:
    assert process.stdout is not None
    pid, url = process.stdout.readline().split()
    return int(pid), url


async def run(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def remember(url: str) -> str:
    token = secrets.token_hex()
    await run(url, "DROP TABLE IF EXISTS memory")
    await run(url, f"CREATE TABLE memory AS SELECT '{token}' AS token")
    return token


async def recall(url: str) -> object:
    return await run(url, "SELECT token FROM memory")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def servers(cluster: Path) -> list[int]:
    """List the processes that work in the cluster, without zombies."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            working = (process / "cwd").readlink()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if working.is_relative_to(cluster):
            found.append(int(process.name))
    return found


def read_process(pid: int, name: str) -> bytes:
    return Path("/proc", str(pid), name).read_bytes()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner(path: Path) -> int:
    return path.stat().st_uid


def files(directory: Path, pattern: str) -> list[Path]:
    return [path for path in directory.glob(pattern) if path.is_file()]


async def test_rows_outlive_a_stop(new_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A later start on the directory, by any object, finds the same rows, password and port."""
    caplog.set_level("INFO")
    async with DevPostgres(new_dir, settings=FAST) as first:
        token = await remember(first.url)
    again = DevPostgres(new_dir, settings=FAST)
    for _ in range(2):
        async with again:
            assert again.url == first.url
            assert await recall(again.url) == token
    assert caplog.messages == [f"initializing PostgreSQL in {new_dir}"]


async def test_settings_and_other_databases(pg: DevPostgres) -> None:
    """Settings reach the server, `url_for` returns any database, and `authsvc` is a superuser, in UTF-8."""
    assert await run(pg.url, "SHOW fsync") == "off"
    await run(pg.url, "CREATE DATABASE another TEMPLATE authsvc")
    assert await run(pg.url_for("another"), "SELECT current_database()") == "another"
    assert await run(pg.url, "SELECT usesuper FROM pg_user WHERE usename = current_user") is True
    assert await run(pg.url, "SHOW server_encoding") == "UTF8"


async def test_nobody_enters_without_the_password(pg: DevPostgres) -> None:
    """A wrong password is refused, every rule requires scram, and the only socket is on 127.0.0.1."""
    password = pg.url.split(":")[2].split("@")[0]
    for wrong in "", "x", password[:-1]:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await run(pg.url.replace(password, wrong), "SELECT 1")
    rules = "SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules"
    assert await run(pg.url, rules) == "scram-sha-256"
    assert await run(pg.url, "SHOW listen_addresses") == "127.0.0.1"
    assert await run(pg.url, "SHOW unix_socket_directories") == ""


async def test_the_callers_settings_cannot_open_it(data_dir: Path) -> None:
    """Address and sockets cannot be changed by the settings."""
    settings = FAST | {"listen_addresses": "*", "unix_socket_directories": "/tmp"}  # noqa: S108
    async with DevPostgres(data_dir, settings=settings) as pg:
        assert await run(pg.url, "SHOW listen_addresses") == "127.0.0.1"
        assert await run(pg.url, "SHOW unix_socket_directories") == ""


async def test_everything_on_disk_is_private(pg: DevPostgres, data_dir: Path) -> None:
    """Data directory and cluster are 0700, the files beside it 0600; no copy of the password remains."""
    assert mode(data_dir) == mode(data_dir / "cluster") == 0o700
    assert {path.name: mode(path) for path in files(data_dir, "*")} == dict.fromkeys(
        ("lock", "log", "password", "port"), 0o600
    )
    password = (data_dir / "password").read_bytes()
    assert [path.name for path in files(data_dir, "**/*") if password in path.read_bytes()] == ["password"]


@on_linux
async def test_no_secret_in_the_server_process(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the password nor any of our variables is in the server's arguments or environment."""
    caplog.set_level("DEBUG")
    monkeypatch.setenv("AUTHSVC_PEPPER", "a secret of ours")
    async with DevPostgres(data_dir, settings=FAST) as pg:
        seen = read_process(pg.pid, "cmdline") + read_process(pg.pid, "environ")
        assert b"listen_addresses=127.0.0.1" in seen
        assert (data_dir / "password").read_bytes() not in seen
        assert b"AUTHSVC" not in seen
        assert (data_dir / "password").read_text() not in caplog.text


async def test_ctrl_c_does_not_reach_the_server(pg: DevPostgres) -> None:
    """The server leads its own session, so that only we receive the terminal's SIGINT."""
    assert os.getsid(pg.pid) == pg.pid


@on_linux
async def test_kill_of_python_leaves_no_server(data_dir: Path) -> None:
    """After a SIGKILL of our process no process of the server remains, and the next start has every row."""
    with hosting(data_dir) as host:
        pid, url = greeting(host)
        token = await remember(url)
        assert pid in servers(data_dir / "cluster")
        host.kill()
    async with DevPostgres(data_dir) as pg:  # at once: it waits for the old server to end
        assert pg.pid != pid
        assert await recall(pg.url) == token
    until(lambda: not servers(data_dir / "cluster"))


@on_linux
async def test_server_outlives_the_thread_that_started_it(data_dir: Path) -> None:
    """The kernel's death signal is bound to a thread; that is not the one whose event loop awaits start()."""
    pg = DevPostgres(data_dir, settings=FAST)
    starter = threading.Thread(target=lambda: asyncio.run(pg.start()))
    starter.start()
    starter.join()
    until(lambda: not Path("/proc/self/task", str(starter.native_id)).exists())
    try:
        token = await remember(pg.url)
        assert await recall(pg.url) == token
    finally:
        await pg.stop()


async def test_start_after_a_crash(pg: DevPostgres) -> None:
    """After a SIGKILL of the postmaster the same object starts again at once: same URL, every row."""
    token = await remember(pg.url)
    url, crashed = pg.url, pg.pid
    os.kill(crashed, signal.SIGKILL)
    await pg.start()
    assert pg.url == url
    assert pg.pid != crashed
    assert await recall(url) == token


async def test_it_is_kept_running(pg: DevPostgres, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever ends it, it restarts by itself: same URL, every row."""
    caplog.set_level("INFO")
    token, url = await remember(pg.url), pg.url
    async with kept_running(pg):
        for number in signal.SIGKILL, signal.SIGINT:
            caplog.clear()
            ended = pg.pid
            os.kill(ended, number)
            await asyncio.to_thread(until, lambda: "PostgreSQL runs again" in caplog.messages)
            assert pg.pid != ended
            assert await recall(url) == token
    assert pg.url == url


async def test_it_is_not_kept_running_elsewhere(pg: DevPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients with its URL would not find it elsewhere, so it ends if its port is taken."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        another = other.getsockname()[1]
    monkeypatch.setattr(DevPostgres, "_free_port", lambda self: another)

    async def killed() -> None:
        async with kept_running(pg):
            os.kill(pg.pid, signal.SIGKILL)
            await asyncio.Event().wait()

    with pytest.raises(DevPostgresError, match="another program has taken its port"):
        await killed()


async def test_errors_pass_while_it_is_kept_running(pg: DevPostgres) -> None:
    """An error inside is raised unchanged, and a server that is still running stays."""
    with pytest.raises(ZeroDivisionError):
        async with kept_running(pg):
            raise ZeroDivisionError
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), kept_running(pg):
            await asyncio.Event().wait()
    assert await run(pg.url, "SELECT 1") == 1


async def test_second_start_is_refused(pg: DevPostgres, data_dir: Path) -> None:
    """While a server runs, a start on its directory names its process and does not affect it."""
    token = await remember(pg.url)
    for other in DevPostgres(data_dir, settings=FAST), pg:
        with pytest.raises(DevPostgresError, match=f"{data_dir} is already in use by process {pg.pid}$"):
            await other.start()
    assert await recall(pg.url) == token


async def test_foreign_server_is_left_alone(
    pg: DevPostgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was started on the cluster without our lock is also named, and keeps running."""
    monkeypatch.setattr("authsvc.process.devpg.cluster._MAX_PREDECESSOR_SECONDS", 0.05)
    (data_dir / "lock").rename(data_dir / "lock.away")
    (data_dir / "lock").touch(mode=0o600)
    with pytest.raises(DevPostgresError, match=f"in use by process {pg.pid}$"):
        await DevPostgres(data_dir, settings=FAST).start()
    assert await run(pg.url, "SELECT 1") == 1
    (data_dir / "lock.away").rename(data_dir / "lock")


async def test_stale_pid_file_does_not_hinder(data_dir: Path) -> None:
    """A stale `postmaster.pid` with the pid of another process of the same user does not prevent a start."""
    pid_file = data_dir / "cluster" / "postmaster.pid"
    async with DevPostgres(data_dir, settings=FAST) as pg:
        token = await remember(pg.url)
        left = pid_file.read_text().split("\n", 1)[1]
    with process_of(owner(data_dir)) as stranger:
        pid_file.write_text(f"{stranger.pid}\n{left}")
        shutil.chown(pid_file, owner(data_dir))
        async with DevPostgres(data_dir, settings=FAST) as pg:
            assert await recall(pg.url) == token
        assert stranger.poll() is None


@contextlib.contextmanager
def process_of(account: int) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"], user=account if ROOT else None) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_interrupted_initdb_is_done_again(new_dir: Path) -> None:
    """A SIGKILL during initdb leaves no cluster; the next start creates one and removes the remains."""
    with hosting(new_dir) as host:
        until(lambda: files(new_dir, "initdb-*/global/pg_control") or host.poll() is not None)
        host.kill()
    assert files(new_dir, "initdb-*/PG_VERSION")
    assert not (new_dir / "cluster").exists()
    async with DevPostgres(new_dir, settings=FAST) as pg:
        assert await run(pg.url, "SELECT 1") == 1
    assert not files(new_dir, "initdb-*/PG_VERSION")


async def test_taken_port_is_replaced(data_dir: Path) -> None:
    """If another program has taken the port meanwhile, the server gets a new one and keeps it."""
    async with DevPostgres(data_dir, settings=FAST) as pg:
        taken = int((data_dir / "port").read_text())
    with socket.create_server(("127.0.0.1", taken)):
        async with pg:
            assert f":{taken}/" not in pg.url
            assert await run(pg.url, "SELECT 1") == 1


async def test_port_snatched_between_probe_and_bind(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the port is taken after we found it free, PostgreSQL fails to bind it, and a free one is tried."""
    with socket.create_server(("127.0.0.1", 0)) as thief:
        found = iter([thief.getsockname()[1]])
        free_port = DevPostgres._free_port
        monkeypatch.setattr(DevPostgres, "_free_port", lambda self: next(found, None) or free_port(self))
        async with DevPostgres(data_dir, settings=FAST) as pg:
            assert await run(pg.url, "SELECT 1") == 1


async def test_failure_ends_with_the_log_of_postgresql(data_dir: Path) -> None:
    """PostgreSQL's error for an invalid setting is in ours, and the directory is free again."""
    with pytest.raises(DevPostgresError, match='invalid value for parameter "work_mem"'):
        await DevPostgres(data_dir, settings=FAST | {"work_mem": "plenty"}).start()
    async with DevPostgres(data_dir, settings=FAST) as pg:
        assert await run(pg.url, "SELECT 1") == 1


async def test_cancelled_start_leaves_nothing(data_dir: Path) -> None:
    """A start that is cancelled releases the directory, and no server keeps running."""
    pg = DevPostgres(data_dir, settings=FAST)
    start = asyncio.create_task(pg.start())
    await asyncio.to_thread(until, lambda: files(data_dir, "cluster/postmaster.pid") or start.done())
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    with pytest.raises(DevPostgresError, match="not running"):
        _ = pg.pid
    async with pg:
        assert await run(pg.url, "SELECT 1") == 1


async def test_directory_of_other_things_is_refused(reachable: Path) -> None:
    """A directory with other files in it is not taken over: no new mode, no new owner, no file."""
    (reachable / "thesis.tex").touch()
    before = mode(reachable), owner(reachable), files(reachable, "**/*")
    with pytest.raises(DevPostgresError, match="contains files that are not of authsvc"):
        await DevPostgres(reachable).start()
    assert (mode(reachable), owner(reachable), files(reachable, "**/*")) == before


def test_data_of_another_version_is_left_alone(new_dir: Path) -> None:
    """The error names both versions and what to do; not a byte of the data is changed."""
    (new_dir / "cluster").mkdir(parents=True)
    (new_dir / "lock").touch()
    (new_dir / "cluster/PG_VERSION").write_text("99\n", "ascii")
    before = {path: path.stat().st_mtime_ns for path in (new_dir / "cluster").rglob("*")}
    with pytest.raises(DevPostgresError) as refused:
        asyncio.run(DevPostgres(new_dir, settings=FAST).start())
    major = Binaries.find().major
    assert str(refused.value) == (
        f"{new_dir} holds the data of PostgreSQL 99, which PostgreSQL {major} cannot read; "
        "nothing was changed. To keep the data, install PostgreSQL 99 (on Debian and Ubuntu the package "
        f"postgresql-99): it is then used for this data. To begin with an empty database, move {new_dir} away"
    )
    assert {path: path.stat().st_mtime_ns for path in (new_dir / "cluster").rglob("*")} == before
    assert {path.name for path in new_dir.iterdir()} == {"cluster", "lock"}


def test_binaries_of_the_version_of_the_data_stand_first(
    reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they are found; without them, the usual ones are returned."""
    for major in (18, 16):
        for program in ("initdb", "postgres"):
            file = reachable / str(major) / program
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {major}.4'\n", "ascii")
            file.chmod(0o755)
    monkeypatch.setattr(
        "authsvc.process.devpg.binaries._candidates", lambda: iter([reachable / "18", reachable / "16"])
    )
    assert [Binaries.find(major).major for major in (None, 18, 16, 15)] == [18, 18, 16, 18]


@pytest.fixture
def other_binaries() -> Binaries:
    """Binaries of the system, of another version than the usual ones."""
    usual = Binaries.find()
    for directory in Path("/usr/lib/postgresql").glob("*/bin"):
        other = Binaries.find(int(directory.parent.name))
        if other.major != usual.major:
            return other
    pytest.skip("no PostgreSQL of another version: Debian package postgresql")


async def test_a_system_postgresql_reads_the_data_that_it_made(
    new_dir: Path, other_binaries: Binaries
) -> None:
    """Data from before the `embedded` extra was installed is used with the binaries of its version."""
    async with DevPostgres(new_dir, settings=FAST, binaries=other_binaries) as pg:
        token = await remember(pg.url)
    async with DevPostgres(new_dir, settings=FAST) as pg:
        assert await recall(pg.url) == token
        assert str(await run(pg.url, "SHOW server_version")).startswith(str(other_binaries.major))


async def test_no_binaries_says_what_to_do(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PostgreSQL, or with one that is too old, the error names the extra and the setting."""
    for name in "initdb", "postgres":
        (reachable / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.22'\n")
        (reachable / name).chmod(0o755)
    monkeypatch.setattr(
        "authsvc.process.devpg.binaries._candidates", lambda: iter([reachable / "missing", reachable])
    )
    with pytest.raises(
        DevPostgresError, match=r"pip install 'authsvc\[embedded\]' \(.*\), or set AUTHSVC_DATABASE_URL"
    ):
        await DevPostgres(reachable / "data").start()


async def test_system_postgresql_serves_too(new_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, a system PostgreSQL is found and runs."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    try:
        binaries = Binaries.find()
    except DevPostgresError:
        pytest.skip("no PostgreSQL 14 or later in this system")
    async with DevPostgres(new_dir, settings=FAST, binaries=binaries) as pg:
        assert str(await run(pg.url, "SHOW server_version")).startswith(str(binaries.major))


@on_linux
async def test_ordinary_user_runs_it_directly(new_dir: Path) -> None:
    """Without root, the server runs as our user, and SIGINT to our process stops it cleanly."""
    nobody = pwd.getpwnam("nobody").pw_uid if ROOT else None
    python = sys.executable if nobody is None else interpreter_for(nobody)
    if nobody is not None:
        new_dir.parent.mkdir()
        os.chown(new_dir.parent, nobody, -1)
    with hosting(new_dir, python, nobody) as host:
        pid, url = greeting(host)
        token = await remember(url)
        assert owner(Path("/proc", str(pid))) == owner(new_dir) == (nobody or os.geteuid())
        host.send_signal(signal.SIGINT)
        host.wait(20)
    assert not (new_dir / "cluster" / "postmaster.pid").exists()
    async with DevPostgres(new_dir) as pg:  # as root: on behalf of the owner
        assert owner(Path("/proc", str(pg.pid))) == owner(new_dir)
        assert await recall(pg.url) == token


def interpreter_for(account: int) -> str:
    """Find a Python that the account can run with our packages: our own may be in a private directory."""
    for python in sys.executable, f"/usr/bin/python3.{sys.version_info.minor}":
        command = [python, "-c", "import asyncpg, authsvc.process.devpg"]
        try:
            subprocess.run(command, user=account, extra_groups=[], env=ENVIRONMENT, cwd="/", check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("no Python of this version and with these packages is in reach for `nobody`")


@as_root
async def test_root_below_a_private_home(
    reachable: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If root's server cannot reach the data directory, its data are stored elsewhere, and we say where."""
    caplog.set_level("INFO")
    home, place, data_dir = reachable / "home", reachable / "place", reachable / "home" / "checkout" / "data"
    home.mkdir(mode=0o700)
    monkeypatch.setattr("authsvc.process.devpg.account._REACHABLE_DIR", place)
    async with DevPostgres(data_dir, settings=FAST) as pg:
        token = await remember(pg.url)
    async with DevPostgres(data_dir, settings=FAST) as pg:
        assert await recall(pg.url) == token
        with pytest.raises(DevPostgresError, match=f"in use by process {pg.pid}$"):
            await DevPostgres(data_dir).start()
    assert (mode(home), mode(data_dir), owner(home)) == (0o700, 0o700, 0)
    (moved,) = place.glob("postgres-*")
    assert mode(moved) == 0o700
    assert f"PostgreSQL cannot reach {data_dir}: its data is in {moved}" in caplog.messages


@as_root
async def test_root_with_binaries_out_of_reach(
    reachable: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Binaries below a private home directory are copied with their libraries, and run from the copy."""
    found = Binaries.find().directory
    package = found.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    if not libraries.is_dir():
        pytest.skip("the binaries here are those of the system")
    home = reachable / "home"
    home.mkdir(mode=0o700)
    (home / package.name).symlink_to(package)
    (home / libraries.name).symlink_to(libraries)
    monkeypatch.setattr("authsvc.process.devpg.account._REACHABLE_DIR", reachable / "place")
    hidden = Binaries(home / found.relative_to(package.parent), 18)
    async with DevPostgres(data_dir, settings=FAST, binaries=hidden) as pg:
        assert read_process(pg.pid, "cmdline").startswith(os.fsencode(reachable / "place"))
        assert await run(pg.url, "SELECT 1") == 1
