"""The connections to PostgreSQL: bounded, and with errors in our own words.

Mechanism: an asyncpg pool that connects when first used, so the service outlives
the database and finds it again by itself.

Bound: `size` connections, `size * 100` callers waiting for one, 5 s for a wait and
5 s for a statement.

Failure: out of reach is Unavailable, too many waiting is Overloaded. A commit is
never cut short by a caller that goes away: its outcome would be unknown.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
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
    pg.InvalidAuthorizationSpecificationError,
    pg.InvalidCatalogNameError,
)


class Database:
    """A pool of connections to one database."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", size: int) -> None:
        self._pool = pool
        self._most_waiting = size * _WAITERS_PER_CONNECTION
        self._waiting = 0
        self.checkouts = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, size: int = 10) -> AsyncIterator[Self]:
        """Yield a database; nothing is connected before the first use."""
        pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            timeout=_WAIT,
            command_timeout=_WAIT,
            # No session state outlives a transaction here: nothing to reset, and a round trip less.
            reset=_as_it_is,
            # JIT pays for analytics, not for queries of a millisecond.
            server_settings={"application_name": "authsvc", "jit": "off", "TimeZone": "UTC"},
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
        if self._waiting >= self._most_waiting:
            raise Overloaded(
                "too many requests wait for the database; retry after the delay in RetryInfo",
                reason="DATABASE_QUEUE_FULL",
                retry_after=0.5,
            )
        self._waiting += 1
        try:
            connection = await self._pool.acquire(timeout=_WAIT)
        except (*_PASSING, pg.InterfaceError) as error:
            if isinstance(error, ValueError):
                raise  # The URL is no good; waiting will not mend it.
            raise _unavailable() from error
        finally:
            self._waiting -= 1
        self.checkouts += 1
        try:
            yield connection
        except _PASSING as error:
            raise _unavailable() from error
        except pg.InterfaceError as error:
            # asyncpg says so of connections that were closed, and of faults of ours.
            if not connection.is_closed():
                raise
            raise _unavailable() from error
        finally:
            await self._release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection within a transaction, committed at the end, rolled back on an error."""
        async with self.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except BaseException:
                if not connection.is_closed():
                    await _to_the_end(transaction.rollback())
                raise
            await _to_the_end(transaction.commit())

    async def _release(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection, timeout=_WAIT)
        except (*_PASSING, pg.InterfaceError):
            _log.debug("a lost connection was dropped")


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
