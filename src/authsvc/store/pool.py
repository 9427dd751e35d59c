"""The connections to PostgreSQL: bounded, and with errors in our own words.

Mechanism: an asyncpg pool that connects when first used, so the service outlives
the database and finds it again by itself.

Bound: `size` connections, `size * 100` callers waiting for one, 5 s for a wait and
5 s for a statement. Transactions wait for locks, those of one owner perhaps all at once, so two connections
of ten or more are kept from them: single statements, by which keys are looked up to be verified, find one.

Failure: out of reach is Unavailable, too many waiting is Overloaded. A commit is
never cut short, neither by a caller that goes away nor by a time-out, since cancelling it
ends only the wait for a synchronous standby: PostgreSQL then commits with a warning. A
commit with a warning is a failure here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self, TypeAlias

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy

from authsvc.errors import Overloaded, Unavailable

_log = logging.getLogger(__name__)

# asyncpg is generic to the type checker only.
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_WAIT = 5.0
_WAITERS_PER_CONNECTION = 100
_KEPT = 2  # At most a fifth; not for transactions.
# A commit that takes longer has lost its connection or its standby. Its outcome is unknown then.
_COMMIT_WAIT = 30.0
_FOR_EVER = 86_400.0
# A transaction whose client was cut off ends by itself, before those who wait for its locks give up.
_MOST_IDLE_MS = 3000

# A connection that is lost or refused, a server that starts, stops, is full, or has become a standby, and
# transactions that PostgreSQL asks to be tried again.
_PASSING = (
    OSError,
    TimeoutError,
    pg.PostgresConnectionError,
    pg.OperatorInterventionError,
    pg.InsufficientResourcesError,
    pg.ReadOnlySQLTransactionError,
    pg.TransactionRollbackError,
    pg.LockNotAvailableError,
    pg.ObjectNotInPrerequisiteStateError,  # a standby, to what only a primary can do
    pg.TargetServerAttributeNotMatched,  # no primary among the hosts
    pg.InvalidAuthorizationSpecificationError,
    pg.InvalidCatalogNameError,
)


class Database:
    """A pool of connections to one database."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", size: int) -> None:
        self._pool = pool
        self._most_waiting = size * _WAITERS_PER_CONNECTION
        self._waiting = 0
        self._transactions = asyncio.Semaphore(size - min(_KEPT, size // 5))
        self.checkouts = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, size: int = 10, pooler: bool = False) -> AsyncIterator[Self]:
        """Yield a database; nothing is connected before the first use.

        Behind a `pooler` that lends a connection for one transaction only, nothing of a session
        is relied upon.
        """
        pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            # No session state outlives a transaction here: nothing to reset, and a round trip less.
            reset=_as_it_is,
            **connect_options(pooler=pooler),
        )
        async with pool:
            try:
                yield cls(pool, size)
            finally:
                try:
                    await asyncio.wait_for(pool.close(), _WAIT)
                except TimeoutError:
                    pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for statements that each are a transaction of their own."""
        with self._queued(), in_our_words():
            connection = await self._pool.acquire(timeout=_WAIT)
        self.checkouts += 1
        try:
            with in_our_words(connection):
                yield connection
        finally:
            await self._release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection within a transaction, committed at the end, rolled back on an error."""
        async with self._turn(), self.connection() as connection:
            await connection.execute(
                # R9 needs a snapshot for each statement, whatever the default of the role is.
                "BEGIN ISOLATION LEVEL READ COMMITTED; "
                f"SET LOCAL idle_in_transaction_session_timeout = {_MOST_IDLE_MS}"
            )
            try:
                yield connection
            except BaseException:
                await _to_the_end(_roll_back(connection))
                raise
            with heeding_warnings(connection):
                await _to_the_end(_commit(connection))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Be one of those who have a transaction."""
        with self._queued(), in_our_words():
            async with asyncio.timeout(_WAIT):
                await self._transactions.acquire()
        try:
            yield
        finally:
            self._transactions.release()

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if self._waiting >= self._most_waiting:
            raise Overloaded(
                "too many requests wait for the database; retry after the delay in RetryInfo",
                reason="DATABASE_QUEUE_FULL",
                retry_after=0.5,
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def refresh(self) -> None:
        """Lend no connection again that is open now: the node at its other end is behind."""
        await self._pool.expire_connections()

    async def _release(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection, timeout=_WAIT)
        except (*_PASSING, pg.InterfaceError, pg.InternalClientError):
            # Also one that is lost while it is given back, which confuses the driver.
            _log.debug("a lost connection was dropped")


def connect_options(*, pooler: bool = False) -> dict[str, Any]:
    """Return how all our connections are made."""
    settings = {"application_name": "authsvc", "TimeZone": "UTC"}
    options: dict[str, Any] = {
        "timeout": _WAIT,
        "command_timeout": _WAIT,
        "server_settings": settings,
        # Of several hosts, the primary: nothing here may be read from a standby.
        "target_session_attrs": "read-write",
    }
    if pooler:
        options["statement_cache_size"] = 0
    else:
        settings["jit"] = "off"  # It pays for analytics, not for queries of a millisecond.
    return options


@contextmanager
def in_our_words(connection: "Connection | None" = None) -> Iterator[None]:
    """Raise the driver's passing errors as Unavailable."""
    try:
        yield
    except _PASSING as error:
        raise _unavailable() from error
    except (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError) as error:
        raise Unavailable(
            "a pooler before the database lends connections for one transaction: set AUTHSVC_FEED=poll",
            reason="DATABASE_POOLED",
            retry_after=1,
        ) from error
    except pg.InternalClientError as error:
        # The driver is confused by a connection that is just being lost; nobody is to use it again.
        if connection is not None and not _is_closed(connection):
            connection.terminate()
        _log.warning("a connection was given up: %s", error)
        raise _unavailable() from error
    except pg.InterfaceError as error:
        # asyncpg says so of connections that were closed, of faults of ours, and of URLs that are no good.
        if isinstance(error, ValueError) or (connection is not None and not _is_closed(connection)):
            raise
        raise _unavailable() from error


@contextmanager
def heeding_warnings(connection: "Connection | asyncpg.Connection[asyncpg.Record]") -> Iterator[None]:
    """Raise Unavailable when PostgreSQL warns meanwhile: so it says that a commit is on no standby."""
    warnings = []

    def note(_: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity_en == "WARNING":
            warnings.append(message)

    connection.add_log_listener(note)
    try:
        yield
    finally:
        if not _is_closed(connection):
            connection.remove_log_listener(note)
    if warnings:
        _log.error("PostgreSQL warned of a commit, so it counts as failed: %s", warnings[0])
        raise Unavailable(
            "the commit may not outlive the loss of the primary; repeat the call",
            reason="COMMIT_UNCERTAIN",
            retry_after=1,
        )


async def _commit(connection: Connection) -> None:
    # Not the driver's time-out, which would cancel the wait for the standby.
    commit = asyncio.ensure_future(connection.execute("COMMIT", timeout=_FOR_EVER))
    done, _ = await asyncio.wait({commit}, timeout=_COMMIT_WAIT)
    if not done:
        _log.error("a commit took %g s and was given up; it may have been carried out", _COMMIT_WAIT)
        connection.terminate()
    await commit


async def _roll_back(connection: Connection) -> None:
    if not _is_closed(connection):
        await connection.execute("ROLLBACK")


def _is_closed(connection: "Connection | asyncpg.Connection[asyncpg.Record]") -> bool:
    try:
        return connection.is_closed()
    except pg.InterfaceError:
        # The pool has taken it back: so it does when it is closed while it is lent.
        return True


async def _as_it_is(_: object) -> None:
    """Hand a connection on as it is."""


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end even when the caller is cancelled; then be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def _unavailable() -> Unavailable:
    return Unavailable(
        "the database is out of reach; keys in memory go on being verified; retry",
        reason="DATABASE_UNAVAILABLE",
        retry_after=1,
    )
