"""What all tests share: a real PostgreSQL, a database per test, a controlled clock, a running service."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import hypothesis
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from authsvc import app
from authsvc.app.background import in_background
from authsvc.app.gauges import watch_notifier
from authsvc.app.notifier import Notifier, notifier_of
from authsvc.config.settings import Settings
from authsvc.notifications.webhooks import caller
from authsvc.process.devpg import Binaries, DevPostgres
from authsvc.store import feed
from authsvc.store.migrate import migrate
from authsvc.telemetry import Metrics
from authsvc.v1 import (
    audit_service_pb2,
    owner_policy_service_pb2,
    session_service_pb2,
    webhook_service_pb2,
)
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.audit_service_pb2_grpc import AuditServiceStub
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.owner_policy_service_pb2_grpc import OwnerPolicyServiceStub
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from authsvc.v1.webhook_service_pb2_grpc import WebhookServiceStub
from authsvc.verify.clock import Stopwatch, boottime

# Examples that are delayed by a busy machine are valid, too.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# Otherwise gRPC would call our services through a proxy from the environment.
os.environ["no_grpc_proxy"] = "127.0.0.1,localhost,::1"  # noqa: SIM112 - gRPC reads small letters


async def _no_names(host: str, port: int) -> list[str]:
    raise OSError(f"{host}:{port} is not looked up: no test calls anybody outside of this machine")


# Otherwise services would call the webhooks that tests register, such as https://example.org.
setattr(caller, "Resolver", lambda **_: _no_names)  # noqa: B010 - a type for the type checker

_TEMPLATE = "template_authsvc"
# The schema replaces an event's time that is far from the database's clock, which no test can move.
# test_audit_bounds.py has a database that does. For a statement that waits, time passes only when a test says
# so (`database_clock`).
_TIMES_ARE_OURS = """
    CREATE OR REPLACE FUNCTION authsvc.audit_time(given timestamptz) RETURNS timestamptz
        LANGUAGE sql AS $$ SELECT given $$;
    CREATE OR REPLACE FUNCTION authsvc.service_time(sent_time timestamptz) RETURNS timestamptz
        LANGUAGE sql VOLATILE AS $$
            SELECT CASE WHEN EXISTS (
                SELECT FROM pg_locks
                 WHERE locktype = 'advisory' AND objid = 86400 AND granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            ) THEN sent_time + interval '1 day' ELSE sent_time END
        $$
"""
# Tests need no data after a crash of the machine.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


# The template's files without changes, including what its last connection has cached in them.
_COPY = "STRATEGY FILE_COPY" if Binaries.find().major >= 15 else ""
_SHM, _ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108
#: The key from which the secrets of webhooks are derived.
WEBHOOK_KEY = b64encode(b"the webhooks of tests" + bytes(11)).decode()
NO_PAUSES = app.DrainPauses(quiet=0, answered=0, idle_grace=0)


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self, now: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@asynccontextmanager
async def database_clock(url: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that lets a day pass for the statements that wait in the database, until the end."""
    connection = await asyncpg.connect(url)
    try:
        yield lambda: connection.execute("SELECT pg_advisory_lock(86400)")
    finally:
        await connection.close()


class MovedStopwatch:
    """The stopwatch of the machine, which a test can move forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return boottime() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class Ticker:
    """A tick that the test triggers."""

    def __init__(self) -> None:
        self._ticks = asyncio.Semaphore(0)

    async def __call__(self) -> None:
        await self._ticks.acquire()

    def tick(self) -> None:
        self._ticks.release()


@dataclass
class Service:
    """A running service and its clients."""

    app: app.App
    address: str
    clock: Clock
    ticker: Ticker
    admin_key: str
    channel: grpc.aio.Channel
    notifier: Notifier

    def as_caller(self, key_string: str) -> "Client":
        """Return a client that calls with this key string."""
        return Client(self.channel, key_string)

    @property
    def admin(self) -> "Client":
        return self.as_caller(self.admin_key)

    @property
    def notifier_registry(self) -> CollectorRegistry:
        """The metrics of the notifier."""
        metrics = Metrics()
        watch_notifier(metrics, self.notifier, self.app.database)
        return metrics.registry

    async def flush(self) -> None:
        """Write the pending last uses, activities and refused attempts."""
        await self.app.usage.flush()
        await self.app.activity.flush()
        await self.app.refusals.flush()


_METHODS: dict[str, tuple[Any, Any]] = {
    method.name: (messages, stub)
    for messages, service, stub in (
        (pb, "KeyService", KeyServiceStub),
        (session_service_pb2, "SessionService", SessionServiceStub),
        (owner_policy_service_pb2, "OwnerPolicyService", OwnerPolicyServiceStub),
        (audit_service_pb2, "AuditService", AuditServiceStub),
        (webhook_service_pb2, "WebhookService", WebhookServiceStub),
    )
    for method in messages.DESCRIPTOR.services_by_name[service].methods
}


class Client:
    """The services above for one caller, for instance `await client.GetKey(key_id=...)`."""

    def __init__(self, channel: grpc.aio.Channel, key_string: str | None, **headers: str) -> None:
        """Take the caller's credential, None for none, and other headers, with _ for -."""
        self._channel = channel
        self._metadata = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if key_string is not None:
            self._metadata.append(("authorization", f"Bearer {key_string}"))

    def with_key(self, key_string: str) -> "Client":
        """Return a client on the same channel that calls with this key string."""
        return Client(self._channel, key_string)

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        messages, stub = _METHODS[method]
        request_type = getattr(messages, f"{method}Request")
        send = getattr(stub(self._channel), method)

        def call(request: object = None, /, timeout: float = 30, **fields: object) -> Awaitable[Any]:
            message = request if request is not None else request_type(**fields)
            return send(message, metadata=self._metadata, timeout=timeout)  # type: ignore[no-any-return]

        return call


async def eventually(read: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> None:
    """Poll until the condition holds; fail after ten seconds."""
    async with asyncio.timeout(10):
        while not holds(await read()):
            pass


def pytest_configure() -> None:
    """Let programs under test get SIGHUP and SIGINT.

    nohup ignores the one, and a shell that starts the tests in the background the other. An ignored signal is
    inherited by programs, and one with a handler is not.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(reachable_dir: Path) -> AsyncIterator[DevPostgres]:
    """The PostgreSQL of this test process, with a migrated template database."""
    async with DevPostgres(reachable_dir / "postgres", settings=_FAST) as server:
        await _sql(server.url_for("postgres"), f"CREATE DATABASE {_TEMPLATE}")
        await migrate(server.url_for(_TEMPLATE))
        await _sql(server.url_for(_TEMPLATE), _TIMES_ARE_OURS)
        yield server


@pytest.fixture(scope="session")
def reachable_dir() -> Iterator[Path]:
    """A directory that root's PostgreSQL can reach; pytest's own is below a private one."""
    directory = Path(tempfile.mkdtemp(prefix="authsvc-tests-", dir=_memory())).resolve()
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def _memory() -> Path | None:
    """Return where files are kept in memory, or None if there is no such place or not enough room.

    A database has about 300 files, which tests create and remove more than a thousand times.
    """
    with suppress(OSError):
        found = os.statvfs(_SHM)
        if found.f_bavail * found.f_frsize >= _ROOM and not found.f_flag & os.ST_NOEXEC:
            return _SHM
    return None


@asynccontextmanager
async def new_database(postgres: DevPostgres, name: str) -> AsyncIterator[str]:
    """Yield the URL of a new, migrated database."""
    await _sql(postgres.url_for("postgres"), f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} {_COPY}")
    yield postgres.url_for(name)
    await _sql(postgres.url_for("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"t{abs(hash(request.node.nodeid)):x}"


@pytest_asyncio.fixture
async def database_url(postgres: DevPostgres, unique: str) -> AsyncIterator[str]:
    """The URL of a migrated database for this test only."""
    async with new_database(postgres, unique) as url:
        yield url


@pytest_asyncio.fixture
async def empty_database_url(postgres: DevPostgres, unique: str) -> AsyncIterator[str]:
    """The URL of a database without a schema."""
    await _sql(postgres.url_for("postgres"), f"CREATE DATABASE {unique}_empty")
    yield postgres.url_for(f"{unique}_empty")
    await _sql(postgres.url_for("postgres"), f"DROP DATABASE {unique}_empty WITH (FORCE)")


@pytest_asyncio.fixture
async def plain_role(postgres: DevPostgres, unique: str) -> str:
    """A role that may only log in: its name and its password."""
    await _sql(postgres.url_for("postgres"), f"CREATE ROLE {unique} LOGIN PASSWORD '{unique}'")
    return unique


@asynccontextmanager
async def serving(
    database_url: str,
    clock: Clock | None,
    *,
    stopwatch: Stopwatch = boottime,
    pauses: app.DrainPauses = NO_PAUSES,
    notifies: bool = False,
    **settings: object,
) -> AsyncIterator[Service]:
    """Run the whole service on a database, with an administrator's key and a client.

    Without a `clock`, its time is the database's. Of several on one database, only the first has the key.
    Its notifier runs beside it if it `notifies`; otherwise only when the test calls its parts.
    A stop waits for calls in flight, but not for calls that may still arrive, unless `pauses` is passed.
    Programs (`tests.e2e.process`) have the pauses of the product.
    """
    ticker = Ticker()
    values = {
        "listen": "127.0.0.1:0",
        "database_url": SecretStr(database_url),
        "drain_grace": 5.0,
        "scopes": "*",
        "webhook_keys": WEBHOOK_KEY,
        **settings,
    }
    configuration = Settings(**values)  # type: ignore[arg-type]
    async with (
        app.running(configuration, clock=clock, stopwatch=stopwatch, tick=ticker, pauses=pauses) as running,
        AsyncExitStack() as stack,
    ):
        notifier = notifier_of(configuration, running.database, running.clock, running.tracer)
        for work in notifier.works() if notifies else ():
            await stack.enter_async_context(in_background(work))
        minted = await running.keys.ensure_administrator()
        address = f"127.0.0.1:{running.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            key_string = minted.text if minted else ""
            yield Service(running, address, clock or Clock(), ticker, key_string, channel, notifier)


@pytest_asyncio.fixture
async def service(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    """The whole service on a real database, with a clock that the test moves."""
    async with serving(database_url, clock) as running:
        yield running


# Seconds that a client allows for a call that waits in vain; half of them are for the answer to arrive.
BRIEFLY = 4


TRANSPORTS = ("lane", "grpcio")
# Tests with one of these run a service.
_OF_SERVICES = {"service", "database_url", "empty_database_url"}


@pytest.fixture
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What serves gRPC. Tests that ask for it in a directory of `both_transports` run over each."""
    chosen: str = getattr(request, "param", TRANSPORTS[0])
    monkeypatch.setenv("AUTHSVC_TRANSPORT", chosen)
    return chosen


def both_transports(metafunc: pytest.Metafunc) -> None:
    """Run a test that runs a service over each transport; a `pytest_generate_tests`."""
    if "transport" in metafunc.fixturenames and not _OF_SERVICES.isdisjoint(metafunc.fixturenames):
        metafunc.parametrize("transport", TRANSPORTS, indirect=True)


class Patience:
    """Callers that wait for a worker that never confirms; their deadlines pass when the test says so."""

    def __init__(self) -> None:
        self.stopwatch = MovedStopwatch()
        self.looked = asyncio.Event()

    async def ends(self, call: Awaitable[Any]) -> Any:
        """Return the answer to a call, given `BRIEFLY`, whose deadline passes while it waits."""
        self.looked.clear()
        waiting = asyncio.ensure_future(call)
        looked = asyncio.ensure_future(self.looked.wait())
        await asyncio.wait({waiting, looked}, return_when=asyncio.FIRST_COMPLETED)
        looked.cancel()
        assert not waiting.done(), "it did not wait"
        self.stopwatch.advance(BRIEFLY)
        return await waiting


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """For services with its stopwatch. Answers have time to arrive, even on a busy machine."""
    patience = Patience()
    find_behind = feed.find_behind

    async def observed(*asked: Any) -> Any:
        listed = await find_behind(*asked)
        if any(behind and len(behind) == 1 for behind in listed):  # all healthy ones have confirmed
            patience.looked.set()
        return listed

    monkeypatch.setattr(feed, "find_behind", observed)
    monkeypatch.setattr("authsvc.rpc.context._ANSWER_SECONDS", BRIEFLY / 2)
    return patience


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def grpcurl(checkout: Path) -> Path:
    """The path of grpcurl; without it, a test that needs it is skipped."""
    found = shutil.which("grpcurl", path=f"{checkout / '.tools'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(
            "no grpcurl: GOBIN=$PWD/.tools go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest"
        )
    return Path(found)


@pytest.fixture(scope="session")
def buf() -> Path:
    """The path of buf: beside the Python that has our development packages."""
    found = shutil.which("buf", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found is not None
    return Path(found)


async def _sql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
