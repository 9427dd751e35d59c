"""The connection pool: bounded, and shared so that the calls of one owner do not block those of others.

Mechanism: an asyncpg pool that connects when first used, and again after an outage. Changes and lists need
one of its `slots`, which are shared between owners. Single statements, such as the look-up of a key for
verification, need none. A fifth of the connections is reserved for them.

Bound: `size` connections, `size * 100` callers that wait for one, and as many of each owner that wait for a
slot. A wait and a statement take at most 5 s. A transaction waits at most 2 s for a lock (`LockWait` has the
exceptions), so that it releases its slot before callers that wait for the slot give up. PostgreSQL detects a
deadlock in 1 s, and hundreds of changes can queue for one lock within 2 s, because each holds it for a few
milliseconds.

Failure: Unavailable when the database is out of reach, Overloaded when too many callers wait. A commit is
never cancelled, neither when its caller goes away nor by a timeout. Cancelling it would end only the wait for
the synchronous standby: PostgreSQL would commit with a warning. A commit with a warning counts as failed. A
caller that was cancelled meanwhile gets the cancellation, however the commit ends.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self, TypeAlias, TypeVar

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy

from authsvc.model.errors import Overloaded
from authsvc.store.connect import DirectConnection, connect
from authsvc.store.driver_errors import RETRYABLE, checked, released, roll_back, translate_errors
from authsvc.store.lock_wait import LockWait, bounds
from authsvc.store.slots import DatabaseSlots, slot
from authsvc.store.uncancelled import uncancelled
from authsvc.telemetry.durations import Durations

_log = logging.getLogger(__name__)

# The classes of asyncpg are generic for type checkers only.
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
Arguments: TypeAlias = Callable[[], Sequence[object]]
Result = TypeVar("Result")

_MAX_WAIT_SECONDS = 5.0
# Less than a caller waits, so that it learns what happened at each host.
_MAX_CONNECT_SECONDS = 4.0
_WAITERS_PER_CONNECTION = 100
# A commit that takes longer has lost its connection or its standby, and its outcome is unknown: in general,
# and when another node has become the primary. The last is how often that is looked at.
_MAX_COMMIT_SECONDS, _MAX_LEFT_COMMIT_SECONDS, _COMMIT_LOOK_SECONDS = 30.0, 5.0, 1.0
_NO_TIMEOUT_SECONDS = 86_400.0
# R9 requires a new snapshot for each statement, whatever the default of the role is.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# A cached plan from when a table was empty scans the whole table, until it is analyzed, up to a minute after
# it has become large. All statements of changes can use an index.
_BY_INDEX = "SET LOCAL enable_seqscan = off"


class Database:
    """A pool of connections to one database."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", size: int) -> None:
        self._pool = pool
        self._max_waiting = size * _WAITERS_PER_CONNECTION
        #: The number of connections that there may be, that are lent, and of callers that wait for one.
        self.size, self.lent, self.waiting = size, 0, 0
        #: How long callers have waited for a connection, also in vain.
        self.waits = Durations()
        self.slots = DatabaseSlots(size, max_waiting=self._max_waiting)
        self.checkouts = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, size: int = 10, pooler: bool = False) -> AsyncIterator[Self]:
        """Yield a database, which connects when it is first used.

        `pooler` means that a pooler with transaction pooling is in front of it, so no session state is used.
        """
        pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            # No session state outlives a transaction here, so a reset would be a wasted round trip.
            reset=_no_reset,
            connect=partial(connect, timeout=_MAX_CONNECT_SECONDS, pooler=pooler),
            connection_class=DirectConnection,
        )
        async with pool:
            try:
                yield cls(pool, size)
            finally:
                try:
                    await asyncio.wait_for(pool.close(), _MAX_WAIT_SECONDS)
                except TimeoutError:
                    pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for statements that are each a transaction of their own.

        Raises Unavailable when the database is out of reach, and Overloaded when too many callers wait or no
        connection is free within 5 s.
        """
        with self._queued(), translate_errors():
            connection = await self._acquire()
        self.lent += 1
        self.checkouts += 1
        try:
            with translate_errors(connection):
                yield connection
        finally:
            try:
                await self._release(connection)
            finally:
                self.lent -= 1

    @asynccontextmanager
    async def transaction(
        self,
        owner_id: str = "",
        *,
        revokes: bool = False,
        lock_wait: LockWait = LockWait.USUAL,
        last: Callable[[], str] = lambda: "",
    ) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction, which is committed at the end, or rolled back on an error.

        It uses a slot of `owner_id`, for which the change is made; "" is the service itself. A change that
        `revokes` may use a slot of the reserve. `last` returns a statement, or "", to be sent in one message
        with the COMMIT, so that its locks are held for no round trip.

        Raises Overloaded when no slot is free within 5 s, or too many callers wait; Unavailable when the
        database is out of reach, a lock is not released in time, or the outcome of the commit is unknown.
        """
        choices = self.slots.for_change(owner_id, revokes=revokes)
        async with (
            slot(choices, owner_id, max_wait=_MAX_WAIT_SECONDS),
            self.connection() as connection,
            _begun(connection, f"{_BEGIN}; {bounds(lock_wait)}; {_BY_INDEX}", last),
        ):
            yield connection

    async def commit(
        self, owner_id: str, statement: str, arguments: Arguments, *, revokes: bool = False
    ) -> object:
        """Execute one statement, which is a transaction of its own, in a slot of an owner; return its value.

        `arguments` are asked for when it is sent, after the waits for a slot and a connection. It is never
        cancelled, so it has to bound its waits. Raises the same as `transaction`.
        """
        choices = self.slots.for_change(owner_id, revokes=revokes)
        async with slot(choices, owner_id, max_wait=_MAX_WAIT_SECONDS), self.connection() as connection:
            execute = partial(connection.fetchval, statement, *arguments(), timeout=_NO_TIMEOUT_SECONDS)
            return await uncancelled(checked(connection, lambda: _bounded(connection, execute())))

    async def commit_row(self, statement: str, arguments: Arguments) -> "asyncpg.Record | None":
        """Execute one statement as `commit` does, but for a verification, without a slot; return its row.

        Raises Unavailable, also when the outcome is unknown, and Overloaded.
        """
        async with self.connection() as connection:
            execute = partial(connection.fetchrow, statement, *arguments(), timeout=_NO_TIMEOUT_SECONDS)
            return await uncancelled(checked(connection, lambda: _bounded(connection, execute())))

    @asynccontextmanager
    async def listing(self, owner_id: str, *, in_transaction: bool = False) -> AsyncIterator[Connection]:
        """Lend a connection for a list that a caller of `owner_id` requests. Lists have slots of their own.

        With `in_transaction`, it is in a read-only transaction, so that settings can be made for it. Raises
        the same as `transaction`.
        """
        async with (
            slot((self.slots.lists,), owner_id, max_wait=_MAX_WAIT_SECONDS),
            self.connection() as connection,
        ):
            if in_transaction:
                async with _begun(connection, f"{_BEGIN} READ ONLY; {bounds()}"):
                    yield connection
            else:
                yield connection

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if self.waiting >= self._max_waiting:
            raise Overloaded(
                "too many requests wait for the database; retry after the delay in RetryInfo",
                reason="DATABASE_QUEUE_FULL",
                retry_after=0.5,
            )
        self.waiting += 1
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.waiting -= 1
            self.waits.observe(time.perf_counter() - begun)

    @property
    def connected(self) -> int:
        """The number of open connections."""
        return self._pool.get_size()

    async def refresh(self) -> None:
        """Replace all open connections when they are next used, because their node is behind."""
        await self._pool.expire_connections()

    async def _acquire(self) -> Connection:
        try:
            return await self._pool.acquire(timeout=_MAX_WAIT_SECONDS)
        except TimeoutError as error:
            if self.lent < self.size:
                raise
            raise Overloaded(
                f"all connections to the database were in use for {_MAX_WAIT_SECONDS:g} s; retry. "
                "AUTHSVC_DATABASE_POOL_SIZE sets how many there are",
                reason="DATABASE_BUSY",
                retry_after=1,
                setting="AUTHSVC_DATABASE_POOL_SIZE",
            ) from error

    async def _release(self, connection: Connection) -> None:
        releasing = asyncio.ensure_future(released(self._pool, connection, _MAX_WAIT_SECONDS))
        # If the caller goes away meanwhile, nobody else asks how it ended, and asyncio would log a failure.
        releasing.add_done_callback(_seen)
        try:
            await asyncio.shield(releasing)
        except (*RETRYABLE, pg.InterfaceError, pg.InternalClientError):
            # The driver raises these for a connection that is lost while it is released, too.
            _log.debug("a lost connection was dropped")


@asynccontextmanager
async def _begun(
    connection: Connection, begin: str, last: Callable[[], str] = lambda: ""
) -> AsyncIterator[None]:
    """Begin a transaction; commit it at the end, with its `last` statement; roll it back on an error."""
    try:
        # Inside the try block: if this is cancelled, the transaction may have begun.
        await connection.execute(begin)
        yield
        statement = last()
    except BaseException:
        await uncancelled(roll_back(connection))
        raise
    await uncancelled(checked(connection, partial(_commit, connection, statement)))


async def _commit(connection: Connection, last: str = "") -> None:
    committing = connection.execute(f"{last}; COMMIT" if last else "COMMIT", timeout=_NO_TIMEOUT_SECONDS)
    try:
        await _bounded(connection, committing)
    except pg.PostgresError:
        if connection.is_in_transaction():  # The last statement has failed.
            await roll_back(connection)
        raise


async def _bounded(connection: Connection, committing: Coroutine[Any, Any, Result]) -> Result:
    """Await a commit without the timeout of the driver, which would cancel the wait for the standby."""
    task = asyncio.ensure_future(committing)
    waited = 0.0
    while not (await asyncio.wait((task,), timeout=_COMMIT_LOOK_SECONDS))[0]:
        waited += _COMMIT_LOOK_SECONDS
        is_left = getattr(connection, "is_left", False)  # The pool's proxy may have lost its connection.
        if waited >= (_MAX_LEFT_COMMIT_SECONDS if is_left else _MAX_COMMIT_SECONDS):
            _log.error("a commit did not end within %.0f s; its outcome is unknown", waited)
            connection.terminate()
            break
    return await task


async def _no_reset(_: object) -> None:
    """Do not reset a connection."""


def _seen(ended: "asyncio.Future[None]") -> None:
    """Mark the exception of a task as retrieved."""
    if not ended.cancelled():
        ended.exception()
