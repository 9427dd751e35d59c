"""Migrations of a database that is in use: who waits for whom, and for how long."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest

from authsvc.store import short_transaction
from authsvc.store.migrate import Migration, MigrationError, migrate
from authsvc.store.migrate import _connected as connected
from authsvc.store.short_transaction import LockWaitOver, OverlongError, UnknownOutcomeError
from tests.conftest import Client, eventually, serving
from tests.faults.proxy import Proxy

READ = "SELECT count(*) FROM authsvc.keys /* a secret of mine */"
WIDER = Migration(9001, "wider", "ALTER TABLE authsvc.keys ADD COLUMN wider text")
DONE = "SELECT count(*) FROM authsvc.migrations WHERE number > 9000"
NO_WAIT = timedelta()


@asynccontextmanager
async def session(url: str, name: str = "test") -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, server_settings={"application_name": name})
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Any]:
    """Hold the weakest lock of the table of keys, as a long report does."""
    async with session(url, "report") as reader, reader.transaction():
        await reader.execute(READ)
        yield reader


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MIN_PAUSE_SECONDS", "_MAX_PAUSE_SECONDS"):
        monkeypatch.setattr(short_transaction, name, 0.05)


async def register(connection: Any, lease_ms: int, *, renewed_in: timedelta = timedelta(hours=1)) -> None:
    """Register a worker that seems to have renewed its lease at some time from now, so that it has it."""
    await connection.execute(
        "INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid, beat_time)"
        " VALUES ($1, $2, 'h', 7, now() + $3)",
        UUID(int=lease_ms),
        lease_ms,
        renewed_in,
    )


async def test_a_reader_is_waited_for(database_url: str) -> None:
    """It is named, not what it executes; others get through meanwhile; then the migration is applied."""
    told: list[str] = []
    async with reading(database_url) as reader, session(database_url) as other:
        pid = reader.get_server_pid()
        migrating = asyncio.create_task(migrate(database_url, migrations=[WIDER], tell=told.append))

        async def waits() -> list[str]:
            # As a caller, who would wait for as long as the reader reads.
            await other.fetchval(READ, timeout=10)
            return told

        await eventually(waits, bool)
        assert not migrating.done()
    assert await migrating == 1
    assert re.fullmatch(
        rf"migration 9001 wider: waits for a lock that process {pid} \(application report, in a transaction "
        r"for \d+ s\) holds; gives up in \d+ s",
        told[0],
    )
    assert told[1:] == ["applied 9001 wider"]
    assert "secret" not in "".join(told)


async def test_a_reader_that_stays(database_url: str) -> None:
    """The error names it, says that nothing was done, and how to go on."""
    async with reading(database_url) as reader:
        with pytest.raises(LockWaitOver) as caught:
            await migrate(database_url, migrations=[WIDER], lock_wait=NO_WAIT)
        pid = reader.get_server_pid()
        message = str(caught.value)
        assert message.startswith(
            f"migration 9001 wider: not done, since process {pid} (application report, "
        )
        assert f"end it (SELECT pg_terminate_backend({pid}))" in message
        assert "--lock-wait" in message
        assert await reader.fetchval(DONE) == 0
    assert await migrate(database_url, migrations=[WIDER], lock_wait=NO_WAIT) == 1


async def test_another_migration_is_waited_for(database_url: str) -> None:
    """It is named as what it is, and waited for as for anything else."""
    async with session(database_url, "authsvc migrate") as holder, holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock($1)", short_transaction._LOCK)
        with pytest.raises(LockWaitOver, match=r"process \d+ \(application authsvc migrate, in"):
            await migrate(database_url, migrations=[WIDER], lock_wait=NO_WAIT)
        migrating = asyncio.create_task(migrate(database_url, migrations=[WIDER]))
    assert await migrating == 1


async def test_without_a_second_connection(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If PostgreSQL has no place for it, nobody is named, and the rest is the same."""
    opened: list[str] = []

    async def once(url: str, *options: Any) -> Any:
        opened.append(url)
        if len(opened) > 1:
            raise MigrationError("cannot use the database: sorry, too many clients already")
        return await connected(url, *options)

    async with reading(database_url):
        monkeypatch.setattr("authsvc.store.migrate._connected", once)
        with pytest.raises(LockWaitOver, match="since another session held a lock"):
            await migrate(database_url, migrations=[WIDER], lock_wait=NO_WAIT)
    assert len(opened) > 1


async def test_two_that_wait_for_each_other(database_url: str) -> None:
    """The migration gives way, and is applied afterwards."""
    both = Migration(
        9001,
        "both",
        "LOCK TABLE authsvc.keys IN ACCESS EXCLUSIVE MODE; SELECT pg_advisory_xact_lock(7);"
        "LOCK TABLE authsvc.jobs IN ACCESS EXCLUSIVE MODE",
    )
    async with session(database_url) as other, other.transaction():
        await other.execute("SET LOCAL deadlock_timeout = '10s'")
        await other.execute("LOCK TABLE authsvc.jobs IN ACCESS SHARE MODE")
        migrating = asyncio.create_task(migrate(database_url, migrations=[both]))
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'authsvc.jobs'::regclass AND NOT granted"
        await eventually(lambda: other.fetchval(waiting), bool)
        await other.execute("LOCK TABLE authsvc.keys IN ACCESS SHARE MODE")
    assert await migrating == 1


@pytest.mark.parametrize(
    ("leases", "expected"),
    [
        ([], ("2s", "0", "0")),
        ([30_000], ("2s", "6s", "6s")),
        ([30_000, 2_000], ("250ms", "400ms", "400ms")),
    ],
)
async def test_the_database_enforces_the_bounds(
    database_url: str, leases: list[int], expected: tuple[str, str, str]
) -> None:
    """By the shortest lease: of a lock, of a statement, and of the time between two."""
    async with session(database_url) as other:
        for lease in leases:
            await register(other, lease)
        # A leftover of a worker that is gone.
        await register(other, 1000, renewed_in=-timedelta(hours=1))
        kept = Migration(
            9001,
            "kept",
            "CREATE TABLE kept AS SELECT current_setting('lock_timeout') AS a,"
            " current_setting('statement_timeout') AS b,"
            " current_setting('idle_in_transaction_session_timeout') AS c,"
            " current_setting('application_name') AS d",
        )
        await migrate(database_url, migrations=[kept])
        assert tuple(await other.fetchrow("TABLE kept")) == (*expected, "authsvc migrate")


async def test_nobody_loses_the_lease(database_url: str) -> None:
    """A migration that takes longer than a lease allows is rolled back, and says what to do."""
    long = Migration(9001, "long", "LOCK TABLE authsvc.feed; SELECT pg_sleep(60)")
    longer = Migration(9001, "longer", "LOCK TABLE authsvc.feed;" + "SELECT pg_sleep(0.1);" * 300)
    async with session(database_url) as other:
        await register(other, 1000)
        for migration in (long, longer):
            with pytest.raises(
                OverlongError, match=r"longer than 0.2 s, a fifth of the shortest lease .* 1 s:"
            ):
                await migrate(database_url, migrations=[migration])
            assert await other.fetchval(DONE) == 0
        await other.execute("BEGIN; LOCK TABLE authsvc.feed NOWAIT; COMMIT")
        await other.execute("DELETE FROM authsvc.workers")
        assert await migrate(database_url, migrations=[Migration(9001, "long", "SELECT pg_sleep(0.5)")]) == 1


@pytest.mark.parametrize("sql", ["SELECT pg_sleep(60)", WIDER.sql], ids=["statement", "lock"])
async def test_an_interruption(database_url: str, sql: str) -> None:
    """Nothing of the migration is left, and no session; the next run applies it."""
    migration = Migration(9001, "interrupted", f"CREATE TABLE authsvc.half (); {sql}")
    ours = """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name NOT IN ('test', 'report')
    """
    active = ours + " AND state = 'active' AND query LIKE '%half%'"
    async with reading(database_url), session(database_url) as other:
        migrating = asyncio.create_task(migrate(database_url, migrations=[migration]))
        await eventually(lambda: other.fetchval(active), bool)
        migrating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await migrating
        await eventually(lambda: other.fetchval(ours), lambda count: count == 0)
        assert await other.fetchval("SELECT to_regclass('authsvc.half') IS NULL")
        assert await other.fetchval(DONE) == 0


async def test_a_connection_that_is_lost(database_url: str) -> None:
    """The error says so, and that it can be run again."""
    lost = Migration(9001, "lost", "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(MigrationError, match=r"connection to the database was lost: .* again"):
        await migrate(database_url, migrations=[lost])


class Cut(Proxy):
    """A network that is cut at a statement, before or after the database has received it."""

    def __init__(self, database_url: str, statement: bytes, *, received: bool, skipped: int = 0) -> None:
        super().__init__(database_url)
        self._statement, self._received, self._skipped = statement, received, skipped
        self.is_cut = asyncio.Event()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if data[:1] != b"Q" or not data[5:].startswith(self._statement):
                pass
            elif self._skipped:
                self._skipped -= 1
            else:
                self.cut()
                if self._received:
                    writer.write(data)
                self.is_cut.set()
            await self._open.wait()
            writer.write(data)
        writer.close()


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MAX_ANSWER_SECONDS", "_MAX_ROLLBACK_SECONDS"):
        monkeypatch.setattr(short_transaction, name, 2.0)


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize("received", [False, True])
async def test_a_network_that_is_cut_during_a_commit(database_url: str, *, received: bool) -> None:
    """The error says that the outcome is unknown, and that another run is safe; it is."""
    # After the commits of the check of the database, and of the creation of the schema.
    async with Cut(database_url, b"COMMIT", received=received, skipped=2) as proxy:
        with pytest.raises(
            UnknownOutcomeError,
            match=r"^migration 9001 wider: the outcome of its COMMIT is unknown, .* no answer to COMMIT "
            r"within 2 s. Run `authsvc migrate` again, which is safe",
        ):
            await asyncio.wait_for(migrate(proxy.url, migrations=[WIDER]), 30)
    # The server ends the transaction of the lost connection first.
    assert await migrate(database_url, migrations=[WIDER]) == (0 if received else 1)


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize(
    ("statement", "sql", "told"),
    [
        (
            b"BEGIN ISOLATION",
            WIDER.sql,
            "connection to the database was lost: no answer to BEGIN within 2 s. Run ",
        ),
        (
            b"\n    SET LOCAL",
            WIDER.sql,
            "was lost: no answer to the first statements of a transaction within",
        ),
        (b"ROLLBACK", "SELECT 1/0", "9001 cut failed and was rolled back: division by zero"),
        (b"ROLLBACK", "LOCK TABLE authsvc.keys", "lost: no answer to ROLLBACK within 2 s. Run `authsvc"),
    ],
)
async def test_a_network_that_is_cut(database_url: str, statement: bytes, sql: str, told: str) -> None:
    """What is waited for is told; the reason of a rollback is more important."""
    async with reading(database_url), Cut(database_url, statement, received=True) as proxy:
        with pytest.raises(MigrationError, match=told):
            await asyncio.wait_for(migrate(proxy.url, migrations=[Migration(9001, "cut", sql)]), 30)


@pytest.mark.usefixtures("_no_patience")
async def test_an_interruption_while_the_network_is_cut(database_url: str) -> None:
    """It ends the command, and stays an interruption."""
    async with Cut(database_url, b"SELECT pg_sleep", received=True) as proxy:
        sleep = Migration(9001, "sleep", "SELECT pg_sleep(60)")
        migrating = asyncio.create_task(migrate(proxy.url, migrations=[sleep]))
        await proxy.is_cut.wait()
        migrating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(migrating, 30)


class Traffic:
    """Verifications and changes that go on."""

    def __init__(self, client: Client, key_string: str) -> None:
        self._client, self._key_string = client, key_string
        self.verified = self.changed = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def repeat(call: Callable[[], Any]) -> None:
            while not over.is_set():
                await call()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(self._verify))
            tasks.create_task(repeat(self._change))
            yield
            over.set()

    async def _verify(self) -> None:
        assert (await self._client.VerifyKey(key_string=self._key_string)).valid
        self.verified += 1

    async def _change(self) -> None:
        try:
            made = await self._client.CreateKey(owner_id="globex", display_name="Orders")
            await self._client.RevokeKey(key_id=made.key.key_id)
        except grpc.aio.AioRpcError as error:
            # A change may be told to come again, as by any other lock.
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        else:
            assert not (await self._client.VerifyKey(key_string=made.key_string)).valid
            self.changed += 1


@pytest.mark.slow
async def test_a_service_goes_on(database_url: str) -> None:
    """While a reader keeps a migration of all its tables waiting, and while the migration is applied."""
    tables = ("keys", "key_uses", "workers", "feed", "feed_head")
    wider = Migration(
        9001, "wider", ";".join(f"ALTER TABLE authsvc.{table} ADD COLUMN wider text" for table in tables)
    )
    told: list[str] = []
    async with serving(database_url, None, lease=2) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        traffic = Traffic(service.admin, made.key_string)
        async with traffic.running(), session(database_url, "report") as reader:
            async with reader.transaction():
                # The last table that the migration locks: it holds all others when it waits for this one.
                await reader.execute("SELECT count(*) FROM authsvc.feed_head")
                migrating = asyncio.create_task(migrate(database_url, migrations=[wider], tell=told.append))

                async def progress() -> bool:
                    await asyncio.sleep(0.01)
                    return bool(told)

                await eventually(progress, bool)
                verified, changed = traffic.verified, traffic.changed

                async def goes_on() -> bool:
                    await asyncio.sleep(0.01)
                    return traffic.verified > verified + 100 and traffic.changed > changed + 5

                await eventually(goes_on, bool)
                assert not migrating.done()
            assert await migrating == 1
            verified, changed = traffic.verified, traffic.changed
            await eventually(goes_on, bool)
        assert service.app.follower.registrations == 1
        assert service.app.lease.left > 0
    assert "application report" in told[0]


async def test_many_locks(database_url: str) -> None:
    """What ends the time of an attempt is told: a lock is waited for, also if no single wait is too long."""
    waits = "SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(8)"
    told: list[str] = []
    async with session(database_url, "report") as other:
        await register(other, 2000)
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(8)")
            migrating = asyncio.create_task(
                migrate(database_url, migrations=[Migration(9001, "waits", waits)], tell=told.append)
            )

            async def waited() -> list[str]:
                await asyncio.sleep(0)
                return told

            await eventually(waited, bool)
        assert await migrating == 1
    assert "application report" in told[0]
