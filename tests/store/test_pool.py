"""The connections: what is unavailable, what is too much, what is never interrupted."""

import asyncio
import gc
import logging
import os
import signal

import asyncpg
import pytest
from asyncpg import exceptions as pg

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.store.driver_errors import translate_errors
from authsvc.store.pool import Database
from tests.conftest import eventually
from tests.faults.proxy import Proxy

# The statements by which a transaction waits for a lock, and the number that do.
_WAIT = "SELECT pg_advisory_xact_lock(7)"
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"
# The process of one of them.
_WAITING_HERE = """
SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
 WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
"""


async def test_nobody_there() -> None:
    """A refused connection is Unavailable, with the time to retry."""
    async with Database.open("postgresql://nobody@127.0.0.1:1/none") as database:
        with pytest.raises(Unavailable) as caught:
            async with database.connection():
                pass
    assert caught.value.retry_after > 0


async def test_a_lost_connection(database_url: str) -> None:
    """A connection that the server ends is Unavailable; the next one works."""
    async with Database.open(database_url, size=1) as database:
        with pytest.raises(Unavailable):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_node_that_is_not_the_primary_any_more(database_url: str, in_transaction: bool) -> None:
    """It refuses a change; the next one goes over a new connection, which is one to the primary."""
    delete = "DELETE FROM authsvc.mails"
    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(Unavailable):
            async with database.transaction() if in_transaction else database.connection() as connection:
                await connection.execute(delete)
        async with database.transaction() if in_transaction else database.connection() as connection:
            await connection.execute(delete)


async def test_a_connection_that_is_lost_while_it_is_given_back(database_url: str) -> None:
    """Its work is done; no error is reported, and the next caller gets another one."""
    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute("CREATE TABLE done ()")
            # The driver releases it in a separate task, which begins after this.
            asyncio.get_running_loop().call_soon(connection.terminate)
        async with database.connection() as another:
            assert await another.fetchval("SELECT to_regclass('done') IS NOT NULL")


async def test_an_expired_connection_that_cannot_be_closed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is dropped, and no error is reported: the driver closes it in a task that nobody waits for."""
    monkeypatch.setattr("authsvc.store.connect._MAX_STATEMENT_SECONDS", 0.1)
    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            silent = connection.get_server_pid()
        os.kill(silent, signal.SIGSTOP)
        try:
            before = asyncio.all_tasks()
            await database.refresh()
            async with database.connection() as connection:
                assert connection.get_server_pid() != silent
            [closing] = asyncio.all_tasks() - before
            await asyncio.wait((closing,))
            del closing
            gc.collect()
        finally:
            os.kill(silent, signal.SIGCONT)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_too_many_waiting(database_url: str) -> None:
    """When 100 callers wait for each connection, the next is refused at once; the others are served."""
    async with Database.open(database_url, size=1) as database:
        held, done = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with database.connection():
                held.set()
                await done.wait()

        async def use() -> int:
            async with database.connection() as connection:
                return int(await connection.fetchval("SELECT 1"))

        holder = asyncio.create_task(hold())
        await held.wait()
        waiting = [asyncio.create_task(use()) for _ in range(100)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await use()
        done.set()
        await holder
        assert await asyncio.gather(*waiting) == [1] * 100


async def test_waits_for_a_connection_are_measured(database_url: str) -> None:
    """Each caller once, whether or not it got a connection; and who uses and awaits one now."""

    async def use() -> None:
        async with database.connection():
            pass

    async with Database.open(database_url, size=1) as database:
        assert (database.size, database.connected, database.lent) == (1, 0, 0)
        async with database.connection():
            assert (database.connected, database.lent, database.waits.counts[-1]) == (1, 1, 1)
            waiting = asyncio.ensure_future(use())
            await eventually(lambda: asyncio.sleep(0, database.waiting), bool)
            assert database.waits.counts[-1] == 1
        await waiting
        assert (database.lent, database.waiting, database.waits.counts[-1]) == (0, 0, 2)
    async with Database.open("postgresql://nobody@127.0.0.1:1/none") as nowhere:
        with pytest.raises(Unavailable):
            async with nowhere.connection():
                pass
        assert (nowhere.lent, nowhere.waits.counts[-1]) == (0, 1)


async def test_transactions_leave_room(database_url: str) -> None:
    """However many wait for a lock, a single statement, as a verification needs, runs meanwhile."""
    async with Database.open(database_url, size=10) as database:

        async def change(owner_id: str) -> None:
            async with database.transaction(owner_id, revokes=True) as connection:
                await connection.execute(_WAIT)

        async def show(owner_id: str) -> None:
            async with database.listing(owner_id) as connection:
                await connection.execute(_WAIT)

        async with database.transaction() as holder:
            await holder.execute(_WAIT)
            owners = [*[PLATFORM_OWNER] * 3, *map(str, range(20))]
            waiting = [asyncio.create_task(start(owner)) for owner in owners for start in (change, show)]
            while await holder.fetchval(_WAITING) < 7:
                assert not any(task.done() for task in waiting)
            async with database.connection() as connection:
                assert await connection.fetchval(_WAITING) == 7
            assert not any(task.done() for task in waiting)
        await asyncio.gather(*waiting)


async def test_a_lock_that_is_held_for_long(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that waits for it gets this error, not that the database is unreachable; nothing was done."""
    monkeypatch.setattr("authsvc.store.lock_wait._LOCK_TIMEOUT_MS", 20)
    async with Database.open(database_url) as database:

        async def change() -> None:
            async with database.transaction() as connection:
                await connection.execute("CREATE TABLE made (n integer)")
                await connection.execute(_WAIT)

        async with database.transaction() as holder:
            await holder.execute(_WAIT)
            with pytest.raises(Unavailable, match="another change held a lock") as refusal:
                await change()
            assert refusal.value.reason == "LOCK_TIMEOUT"
            assert await holder.fetchval("SELECT to_regclass('made') IS NULL")


async def test_a_change_that_has_to_give_way(database_url: str) -> None:
    """Of two that wait for each other, one gets the error that the other came first."""
    async with Database.open(database_url) as database:
        first, second = asyncio.Event(), asyncio.Event()

        async def change(mine: int, other: int, here: asyncio.Event, there: asyncio.Event) -> None:
            async with database.transaction() as connection:
                await connection.execute("SET LOCAL deadlock_timeout = 10")
                await connection.execute("SELECT pg_advisory_xact_lock($1)", mine)
                here.set()
                await there.wait()
                await connection.execute("SELECT pg_advisory_xact_lock($1)", other)

        outcomes = await asyncio.gather(
            change(1, 2, first, second), change(2, 1, second, first), return_exceptions=True
        )
        [error] = [outcome for outcome in outcomes if outcome is not None]
        assert isinstance(error, Unavailable)
        assert error.reason == "TRANSACTION_CONFLICT"


async def test_transactions_that_conflict(database_url: str) -> None:
    """A serialization failure of PostgreSQL is reported as such."""
    async with Database.open(database_url) as database:
        async with database.connection() as connection:
            await connection.execute("CREATE TABLE counts (n integer); INSERT INTO counts VALUES (1)")

        async def conflict() -> None:
            async with database.transaction() as late, database.connection() as early:
                await late.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                await late.fetchval("SELECT n FROM counts")
                await early.execute("UPDATE counts SET n = 2")
                await late.execute("UPDATE counts SET n = 3")

        with pytest.raises(Unavailable) as refusal:
            await conflict()
        assert refusal.value.reason == "TRANSACTION_CONFLICT"


async def test_a_schema_that_is_changed_meanwhile(database_url: str) -> None:
    """A statement that a migration has invalidated fails once, with nothing done; the next one works."""

    async def ask(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.fetch("SELECT * FROM seen")

    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute("CREATE VIEW seen AS SELECT 1 AS one")
        await ask(database)
        async with database.connection() as connection:
            await connection.execute("CREATE OR REPLACE VIEW seen AS SELECT 1 AS one, 2 AS two")
        with pytest.raises(Unavailable) as caught:
            await ask(database)
        assert caught.value.reason == "SCHEMA_CHANGED"
        await ask(database)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (pg.LockNotAvailableError, "LOCK_TIMEOUT"),
        (pg.DeadlockDetectedError, "TRANSACTION_CONFLICT"),
        (pg.SerializationError, "TRANSACTION_CONFLICT"),
        (pg.TransactionIntegrityConstraintViolationError, "TRANSACTION_CONFLICT"),
        (pg.QueryCanceledError, "DATABASE_UNAVAILABLE"),
        (pg.IdleInTransactionSessionTimeoutError, "DATABASE_UNAVAILABLE"),
        (pg.TooManyConnectionsError, "DATABASE_UNAVAILABLE"),
    ],
)
def test_what_is_no_outage(error: type[pg.PostgresError], reason: str) -> None:
    """The message does not say that the database cannot be reached; all may be tried again."""
    with pytest.raises(Unavailable) as caught, translate_errors():
        raise error("in PostgreSQL's words")
    assert caught.value.reason == reason
    assert "reach" not in caught.value.message


async def test_who_waits_too_long_for_a_turn(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is that the database is busy, either with calls of the same owner or with all others."""
    async with Database.open(database_url, size=1) as database:
        async with database.transaction():
            monkeypatch.setattr("authsvc.store.pool._MAX_WAIT_SECONDS", 0.01)
            with pytest.raises(Overloaded) as turn:
                async with database.transaction():
                    pass
            with pytest.raises(Overloaded) as connection:
                async with database.connection():
                    pass
        assert (turn.value.reason, connection.value.reason) == ("DATABASE_BUSY", "DATABASE_BUSY")
        assert turn.value.retry_after > 0
        async with database.transaction() as again:
            assert await again.fetchval("SELECT 1") == 1


async def test_a_statement_that_is_not_answered(database_url: str) -> None:
    """It is not known whether the database is unreachable, so the error does not say so."""
    async with Database.open(database_url) as database, database.transaction() as holder:
        await holder.execute(_WAIT)
        with pytest.raises(Unavailable, match="did not answer in time"):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_advisory_lock(7)", timeout=0.01)

        async def wait_briefly() -> None:
            async with database.transaction() as connection:
                await connection.execute("SET LOCAL statement_timeout = 10")
                await connection.execute(_WAIT)

        with pytest.raises(Unavailable, match="canceled a statement"):
            await wait_briefly()


async def test_a_caller_that_leaves_while_its_transaction_begins(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At whatever moment that is, what was begun is ended, and nothing is logged as an error."""
    async with Database.open(database_url, size=1) as database:

        async def change() -> None:
            async with database.transaction() as connection:
                await connection.execute("SELECT 1")

        await change()
        for passes in range(40):
            changing = asyncio.create_task(change())
            for _ in range(passes):
                await asyncio.sleep(0)
            changing.cancel()
            await asyncio.wait({changing})
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()") is None
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_fault_of_ours_is_no_outage(database_url: str) -> None:
    """Invalid SQL and invalid arguments are raised as they are."""
    async with Database.open(database_url) as database:
        with pytest.raises(asyncpg.PostgresSyntaxError):
            async with database.connection() as connection:
                await connection.execute("SELEC")
        with pytest.raises(asyncpg.DataError):
            async with database.connection() as connection:
                await connection.fetchval("SELECT $1::integer", "text")
        with pytest.raises(asyncpg.InterfaceError):
            async with database.connection() as connection:
                await connection.fetchval("SELECT $1::integer", 1, 2)


async def test_an_error_rolls_back(database_url: str) -> None:
    """The changes of a transaction before an error are undone."""
    async with Database.open(database_url) as database:

        async def fail() -> None:
            async with database.transaction() as connection:
                await connection.execute("CREATE TABLE made (n integer)")
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT to_regclass('made')") is None


async def test_a_commit_is_not_cut_short(database_url: str) -> None:
    """A caller that is cancelled while its transaction commits is cancelled after the commit."""
    # A deferred trigger makes the commit wait for a lock that the test holds.
    async with Database.open(database_url) as database, Database.open(database_url) as other:
        async with database.connection() as connection:
            await connection.execute(
                """
                CREATE TABLE made (n integer);
                CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
                CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON made DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION wait();
                """
            )

        async def insert() -> None:
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO made VALUES (1)")

        async with other.transaction() as holder:
            await holder.execute("SELECT pg_advisory_xact_lock(7)")
            inserting = asyncio.create_task(insert())
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not await holder.fetchval(waiting):
                pass
            inserting.cancel()
            await asyncio.sleep(0)
            inserting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await inserting
        async with other.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM made") == 1


async def test_a_caller_that_was_cancelled_is_told_so_though_its_commit_fails(database_url: str) -> None:
    """Otherwise work that tries again after an error would never end. The next caller has a connection."""
    async with Database.open(database_url, size=1) as database, Database.open(database_url) as other:
        async with database.connection() as connection:
            await connection.execute(
                """
                CREATE TABLE made (n integer);
                CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
                CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON made DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION wait();
                """
            )

        async def insert() -> None:
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO made VALUES (1)")

        async with other.transaction() as holder:
            await holder.execute(_WAIT)
            inserting = asyncio.create_task(insert())
            while (pid := await holder.fetchval(_WAITING_HERE)) is None:
                pass
            inserting.cancel()
            await holder.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(asyncio.CancelledError) as cancellation:
                await inserting
        assert isinstance(cancellation.value.__cause__, Unavailable)
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM made") == 0


async def test_a_caller_that_was_cancelled_is_told_so_though_nothing_can_be_rolled_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed instead."""
    monkeypatch.setattr("authsvc.store.connect._MAX_STATEMENT_SECONDS", 0.1)
    async with Proxy(database_url) as proxy, Database.open(proxy.url, size=1) as database:
        cut = asyncio.Event()

        async def change() -> None:
            async with database.transaction() as connection:
                await connection.execute("CREATE TABLE made (n integer)")
                proxy.cut()
                cut.set()
                await asyncio.Event().wait()

        changing = asyncio.create_task(change())
        await cut.wait()
        changing.cancel()
        await asyncio.wait((changing,))
        assert changing.cancelled()
        proxy.heal()
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT to_regclass('made')") is None


async def test_a_transaction_that_was_left_open(database_url: str) -> None:
    """A connection that returns in the middle of a transaction is handed on without the transaction."""
    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute("BEGIN; CREATE TABLE made (n integer); SET LOCAL enable_hashjoin = off")
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT to_regclass('made')") is None
            assert await connection.fetchval("SHOW enable_hashjoin") == "on"


async def test_a_commit_that_never_ends_is_given_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed, nothing is cancelled, and the outcome is unknown: Unavailable."""
    monkeypatch.setattr("authsvc.store.pool._MAX_COMMIT_SECONDS", 0.2)
    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute("""
                CREATE TABLE slow (id integer);
                CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql
                    AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION sleep();
                """)
        other = await asyncpg.connect(database_url)
        await other.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(Unavailable):
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO slow VALUES (1)")
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM slow") == 0
            await other.execute("SELECT pg_advisory_unlock(1)")
            # It was carried out nevertheless, once that was possible.
            async with asyncio.timeout(10):
                while not await connection.fetchval("SELECT count(*) FROM slow"):
                    pass
        await other.close()


async def test_a_commit_with_a_warning_counts_as_failed(database_url: str) -> None:
    """PostgreSQL reports only by a warning that a commit is on no standby."""
    async with Database.open(database_url) as database:
        async with database.connection() as connection:
            await connection.execute("""
                CREATE TABLE warning (id integer);
                CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql
                    AS $$ BEGIN RAISE WARNING 'not on the standby'; RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON warning DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION warn();
                """)
        with pytest.raises(Unavailable) as refusal:
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO warning VALUES (1)")
        assert refusal.value.reason == "COMMIT_UNCERTAIN"


async def test_a_transaction_whose_client_is_gone_ends(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks are released soon: a disconnected client does not block the changes of others."""
    monkeypatch.setattr("authsvc.store.lock_wait._MAX_IDLE_MS", 100)
    lock = "UPDATE authsvc.feed_head SET seq = seq"
    async with Database.open(database_url) as database:

        async def hold() -> None:
            async with database.transaction() as connection:
                await connection.execute(lock)
                async with database.transaction() as other:
                    await other.execute(lock)
                await connection.execute("SELECT 1")

        with pytest.raises(Unavailable):
            await hold()
