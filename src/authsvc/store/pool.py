"""The connections to PostgreSQL: bounded, and shared so that one owner's calls do not stop another's.

Mechanism: an asyncpg pool that connects when first used, so the service outlives
the database and finds it again by itself. Changes and lists need one of its `slots`, which are shared by
owner. Single statements, by which keys are looked up to be verified, need none, and a fifth of
the connections is out of reach of the slots.

Bound: `size` connections, `size * 100` callers waiting for one, as many of each owner waiting for a slot,
5 s for a wait and 5 s for a statement. A transaction waits 2 s for a lock (`LockWait` says when it is another
time), so that it gives its slot back before those who wait for one give up. 2 s are more than PostgreSQL
takes to notice a deadlock (1 s), and than hundreds of changes take that queue for one lock, each of which
holds it for some milliseconds.

Failure: out of reach is Unavailable, too many waiting is Overloaded. A commit is
never cut short, neither by a caller that goes away nor by a time-out, since cancelling it
ends only the wait for a synchronous standby: PostgreSQL then commits with a warning. A
commit with a warning is a failure here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from typing import Any, Self, TypeAlias

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy

from authsvc.model.errors import Overloaded
from authsvc.store.driver_errors import RETRYABLE, is_closed, raise_on_warning, translate_errors
from authsvc.store.slots import DatabaseSlots, slot

_log = logging.getLogger(__name__)

# asyncpg is generic to the type checker only.
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_WAIT = 5.0
_WAITERS_PER_CONNECTION = 100
# A commit that takes longer has lost its connection or its standby. Its outcome is unknown then.
_COMMIT_WAIT = 30.0
_FOR_EVER = 86_400.0
# A transaction whose client was cut off ends by itself, before those give up who wait for a turn.
_MAX_IDLE_MS = 3000
# R9 needs a snapshot for each statement, whatever the default of the role is.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# A plan that was made while a table was empty, and reads all of it, is kept until the table is analyzed. That
# may be a minute after it has become large. All that changes make use of has an index.
_BY_INDEX = "SET LOCAL enable_seqscan = off"
# How long a transaction waits for one lock, by `LockWait`.
_LOCK_TIMEOUT_MS, _OWNER_LOCK_TIMEOUT_MS, _SHORT_LOCK_TIMEOUT_MS = 2000, 4500, 200


class LockWait(Enum):
    """How long a transaction waits for a lock."""

    USUAL = "usual"
    #: One that means a whole owner outlasts those that it waits for.
    OWNER = "owner"
    #: Where others would wait for the locks of one owner.
    SHORT = "short"


class Database:
    """A pool of connections to one database."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", size: int) -> None:
        self._pool = pool
        self._max_waiting = size * _WAITERS_PER_CONNECTION
        self._waiting = 0
        self._size = size
        self._lent = 0
        self.slots = DatabaseSlots(size, max_waiting=self._max_waiting)
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
        with self._queued(), translate_errors():
            connection = await self._acquire()
        self._lent += 1
        self.checkouts += 1
        try:
            with translate_errors(connection):
                yield connection
        finally:
            try:
                await self._release(connection)
            finally:
                self._lent -= 1

    @asynccontextmanager
    async def transaction(
        self,
        owner_id: str = "",
        *,
        revokes: bool = False,
        lock_wait: LockWait = LockWait.USUAL,
    ) -> AsyncIterator[Connection]:
        """Lend a connection within a transaction, committed at the end, rolled back on an error.

        It takes a slot of `owner_id`, for whom this is done; "" is the service itself. What `revokes` may
        take one of the reserve. Raises Overloaded when there is no slot within 5 s.
        """
        choices = self.slots.for_change(owner_id, revokes=revokes)
        async with (
            slot(choices, owner_id, patience=_WAIT),
            self.connection() as connection,
            _begun(connection, f"{_BEGIN}; {_bounds(lock_wait)}; {_BY_INDEX}"),
        ):
            yield connection

    @asynccontextmanager
    async def listing(self, owner_id: str, *, in_transaction: bool = False) -> AsyncIterator[Connection]:
        """Lend a connection for a list that a caller of `owner_id` asks for.

        With `in_transaction`, in a read-only one, so that settings can be made for it. Lists have slots of
        their own. Raises Overloaded when there is none within 5 s.
        """
        async with slot((self.slots.lists,), owner_id, patience=_WAIT), self.connection() as connection:
            if in_transaction:
                async with _begun(connection, f"{_BEGIN} READ ONLY; {_bounds()}"):
                    yield connection
            else:
                yield connection

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if self._waiting >= self._max_waiting:
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

    async def _acquire(self) -> Connection:
        try:
            return await self._pool.acquire(timeout=_WAIT)
        except TimeoutError as error:
            if self._lent < self._size:
                raise
            raise Overloaded(
                f"all connections to the database were in use for {_WAIT:g} s; retry. "
                "AUTHSVC_DATABASE_POOL_SIZE sets how many there are",
                reason="DATABASE_BUSY",
                retry_after=1,
                setting="AUTHSVC_DATABASE_POOL_SIZE",
            ) from error

    async def _release(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection, timeout=_WAIT)
        except (*RETRYABLE, pg.InterfaceError, pg.InternalClientError):
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


@asynccontextmanager
async def _begun(connection: Connection, begin: str) -> AsyncIterator[None]:
    """Begin a transaction; commit it at the end, roll it back on an error."""
    try:
        # Who is cancelled while this is sent has a transaction, too.
        await connection.execute(begin)
        yield
    except BaseException:
        await _to_the_end(_roll_back(connection))
        raise
    with raise_on_warning(connection):
        await _to_the_end(_commit(connection))


def _bounds(lock_wait: LockWait = LockWait.USUAL) -> str:
    lock_timeout_ms = {
        LockWait.USUAL: _LOCK_TIMEOUT_MS,
        LockWait.OWNER: _OWNER_LOCK_TIMEOUT_MS,
        LockWait.SHORT: _SHORT_LOCK_TIMEOUT_MS,
    }[lock_wait]
    return (
        f"SET LOCAL idle_in_transaction_session_timeout = {_MAX_IDLE_MS}; "
        f"SET LOCAL lock_timeout = {lock_timeout_ms}"
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
    if not is_closed(connection):
        await connection.execute("ROLLBACK")


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
