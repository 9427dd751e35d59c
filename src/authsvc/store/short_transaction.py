"""Transactions of migrations, which hold up nobody for long on a database that is in use.

Mechanism: whoever waits for a strong lock on a table makes everybody wait who comes later. So an attempt
waits two seconds at most for a lock, gives way, and is repeated after a pause. In the meantime a second
connection looks who holds the lock. While workers are registered, an attempt has only a part of their
shortest lease, so that they can renew their leases in time. The database enforces these bounds as well, for
the case that this process is stopped or cut off.

Bound: `lock_wait` seconds for all attempts; with 0 there is one attempt. The database has a minute to answer
BEGIN and COMMIT, and ten seconds to answer ROLLBACK.

Failure: LockWaitOver names the sessions that hold the lock. OverlongError says which lease is too short.
Nothing of the transaction was done in both cases. UnknownOutcomeError: the answer to COMMIT was lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import asyncpg
from asyncpg import exceptions as pg

from authsvc.model.errors import OperatorError

if TYPE_CHECKING:
    # The classes of asyncpg are generic for type checkers only.
    DirectConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
Done = TypeVar("Done")

# The key of the advisory lock of all migrations. It must never change.
_LOCK = 0x617574687376
# Longer than `deadlock_timeout`, after which an automatic vacuum gives way.
_MAX_LOCK_SECONDS = 2.0
# What an attempt may take of the shortest lease: for one lock, and in all. A renewal may take a quarter of
# it, so one that waits for an attempt succeeds.
_LOCK_SHARE, _WHOLE_SHARE = 1 / 8, 1 / 5
_MIN_PAUSE_SECONDS, _PAUSE_GROWTH, _MAX_PAUSE_SECONDS = 0.5, 1.5, 5.0
# Attempts that take too long although nobody holds them up: the database may have been busy.
_MAX_OVERLONG = 3
_FIRST_LOOK_SECONDS, _LOOK_SECONDS, _MAX_LOOK_SECONDS = 0.1, 0.2, 2.0
_MAX_SILENCE_SECONDS = 30.0
# For the statements around the work of a transaction. A commit may have to wait for a slow disk or standby.
_MAX_ANSWER_SECONDS = 60.0
# Shorter, since somebody who has interrupted the command waits for it, and nothing depends on the answer.
_MAX_ROLLBACK_SECONDS = 10.0
# READ COMMITTED, whatever the default of the role is: each statement sees what others have committed.
_BEGIN = f"""
    SET LOCAL application_name = 'authsvc migrate';
    SET LOCAL lock_timeout = {_MAX_LOCK_SECONDS * 1000:.0f};
    SET LOCAL statement_timeout = 0;
"""
_BOUNDS = """
    SET LOCAL lock_timeout = {lock:.0f};
    SET LOCAL statement_timeout = {whole:.0f};
    SET LOCAL idle_in_transaction_session_timeout = {whole:.0f}
"""
# A worker whose last renewal is older than its lease has none. Its row may be a leftover.
_SHORTEST_LEASE = """
    SELECT min(lease_ms) / 1000.0::float8 FROM authsvc.workers
     WHERE coalesce(beat_time, register_time) > clock_timestamp() - 2 * lease_ms * interval '1 millisecond'
"""
_HOLDERS = """
    SELECT DISTINCT b.pid, coalesce(nullif(a.application_name, ''), a.backend_type, '') AS application,
           extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
      FROM unnest(pg_blocking_pids($1)) AS b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid
     ORDER BY b.pid
"""


class LockWaitOver(OperatorError):
    """Other sessions held a lock for as long as it was to be waited for."""


class OverlongError(OperatorError):
    """The transaction takes longer than the leases of workers allow."""


class UnknownOutcomeError(OperatorError):
    """The connection was lost during COMMIT."""


class _TooLong(Exception):
    """An attempt took longer than it may."""


_RETRIED = (_TooLong, pg.LockNotAvailableError, pg.DeadlockDetectedError)


class ShortTransactions:
    """Runs transactions over one connection. No other migration runs at the same time."""

    def __init__(
        self,
        connection: "DirectConnection",
        connect: "Callable[[], Awaitable[DirectConnection]]",
        *,
        lock_wait: float,
        tell: Callable[[str], object],
    ) -> None:
        """`connect` opens the second connection, when it is needed. `tell` receives what is waited for."""
        self._connection = connection
        self._connect = connect
        self._lock_wait = lock_wait
        self._tell = tell
        self._second: DirectConnection | None = None
        self._lease: float | None = None
        self._holders: Sequence[asyncpg.Record] = ()
        self._told: tuple[float, list[int]] | None = None

    async def run(self, what: str, work: Callable[[], Awaitable[Done]]) -> Done:
        """Return what `work` returns, whose statements are committed together. It may be repeated.

        `what` names the transaction in messages. Raises LockWaitOver, OverlongError, UnknownOutcomeError,
        ConnectionError when the database does not answer, and what `work` raises.
        """
        start, pause, overlong = time.monotonic(), _MIN_PAUSE_SECONDS, 0
        self._told = None
        while True:
            try:
                return await self._attempt(what, work)
            except _RETRIED as error:
                waited = time.monotonic() - start
                is_over = waited >= self._lock_wait
                if isinstance(error, _TooLong) and not self._holders:
                    overlong += 1
                    if is_over or overlong == _MAX_OVERLONG:
                        raise OverlongError(self._overlong(what)) from error
                elif is_over:
                    raise LockWaitOver(self._given_up(what, waited)) from error
                else:
                    self._tell_wait(what, self._lock_wait - waited)
                await asyncio.sleep(min(pause, self._lock_wait - waited))
                pause = min(pause * _PAUSE_GROWTH, _MAX_PAUSE_SECONDS)

    async def close(self) -> None:
        """Close the second connection."""
        if self._second is not None:
            await self._second.close()

    async def _attempt(self, what: str, work: Callable[[], Awaitable[Done]]) -> Done:
        self._holders = ()
        transaction = self._connection.transaction(isolation="read_committed")
        async with self._answered("BEGIN"):
            await transaction.start()
        try:
            done = await self._work(work)
        except BaseException as error:
            try:
                async with self._answered("ROLLBACK", _MAX_ROLLBACK_SECONDS):
                    await transaction.rollback()
            except ConnectionError:
                if isinstance(error, _RETRIED):
                    raise
                raise error from None
            raise
        try:
            async with self._answered("COMMIT"):
                await transaction.commit()
        except (OSError, pg.PostgresConnectionError) as error:
            raise UnknownOutcomeError(
                f"{what}: the outcome of its COMMIT is unknown, since the connection to the database was "
                f"lost: {error}. Run `authsvc migrate` again, which is safe: it continues with what was not "
                "applied"
            ) from error
        return done

    async def _work(self, work: Callable[[], Awaitable[Done]]) -> Done:
        async with self._answered("the first statements of a transaction"):
            await self._connection.execute(_BEGIN)
            pid: int = await self._connection.fetchval("SELECT pg_backend_pid()")
        async with self._watched(pid):
            async with self._answered("a request for a lock"):
                await self._connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                await self._bound()
            try:
                async with asyncio.timeout(None if self._lease is None else self._lease * _WHOLE_SHARE):
                    return await work()
            except (TimeoutError, pg.QueryCanceledError) as error:
                if self._lease is None:
                    raise
                raise _TooLong from error

    @asynccontextmanager
    async def _answered(self, statement: str, seconds: float | None = None) -> AsyncIterator[None]:
        """Give up the connection when the database does not answer: it, or the network, may be gone."""
        seconds = _MAX_ANSWER_SECONDS if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            self._connection.terminate()
            raise ConnectionError(f"no answer to {statement} within {seconds:g} s") from error

    async def _bound(self) -> None:
        """Set the bounds of this transaction by the leases of workers."""
        self._lease = None
        if await self._connection.fetchval("SELECT to_regclass('authsvc.workers') IS NOT NULL"):
            self._lease = await self._connection.fetchval(_SHORTEST_LEASE)
        if self._lease is not None:
            lock = min(_MAX_LOCK_SECONDS, self._lease * _LOCK_SHARE)
            whole = self._lease * _WHOLE_SHARE
            await self._connection.execute(_BOUNDS.format(lock=lock * 1000, whole=whole * 1000))

    @asynccontextmanager
    async def _watched(self, pid: int) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch(pid))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self, pid: int) -> None:
        """Note who blocks this process of the server. Without a second connection, nobody is known."""
        await asyncio.sleep(_FIRST_LOOK_SECONDS)
        while True:
            with suppress(OSError, TimeoutError, pg.PostgresError, pg.InterfaceError, OperatorError):
                if self._second is None or self._second.is_closed():
                    self._second = await self._connect()
                found = await self._second.fetch(_HOLDERS, pid, timeout=_MAX_LOOK_SECONDS)
                self._holders = found or self._holders
            await asyncio.sleep(_LOOK_SECONDS)

    def _tell_wait(self, what: str, left: float) -> None:
        """Tell at first, when others hold the lock than before, and now and then."""
        now, pids = time.monotonic(), [row["pid"] for row in self._holders]
        if self._told is not None and pids == self._told[1] and now - self._told[0] < _MAX_SILENCE_SECONDS:
            return
        self._told = now, pids
        self._tell(f"{what}: waits for a lock that {self._named} holds; gives up in {left:.0f} s")

    def _given_up(self, what: str, waited: float) -> str:
        pids = [row["pid"] for row in self._holders if row["pid"]]
        ended = " or ".join(f"SELECT pg_terminate_backend({pid})" for pid in pids)
        return (
            f"{what}: not done, since {self._named} held a lock that it needs, for the {waited:.0f} s that "
            f"were waited. Wait until that transaction has ended{f', or end it ({ended})' if ended else ''}; "
            "then run `authsvc migrate` again. --lock-wait sets how long it waits"
        )

    def _overlong(self, what: str) -> str:
        lease = self._lease or 0.0
        return (
            f"{what}: not done, since it takes longer than {lease * _WHOLE_SHARE:.2g} s, a fifth of the "
            f"shortest lease of a worker, which is {lease:g} s: workers could not renew theirs in time. "
            "Run `authsvc migrate` again when the database has less to do, or with all replicas stopped; or "
            "restart the replicas with a longer AUTHSVC_LEASE first"
        )

    @property
    def _named(self) -> str:
        """Who holds the lock. Not what they execute, which may contain secrets."""
        return " and ".join(map(_name, self._holders)) or "another session"


def _name(holder: asyncpg.Record) -> str:
    if not holder["pid"]:
        return "a prepared transaction (see pg_prepared_xacts)"
    since = holder["seconds"]
    known = (
        f"application {holder['application']}" if holder["application"] else "",
        # Only a superuser or a member of pg_read_all_stats sees it.
        f"in a transaction for {since:.0f} s" if since is not None else "",
    )
    told = ", ".join(filter(None, known))
    return f"process {holder['pid']}" + (f" ({told})" if told else "")
