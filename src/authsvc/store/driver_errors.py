"""Translation of the driver's errors into those of `model.errors`.

Only connections that were lost or refused are reported as "out of reach". Errors of PostgreSQL itself keep
their cause, so that nobody searches for a fault of the network.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import asyncpg
from asyncpg import exceptions as pg

from authsvc.model.errors import Unavailable
from authsvc.store.connect_error import ConnectError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

_log = logging.getLogger(__name__)

# The classes of asyncpg are generic for type checkers only.
AnyConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"

Result = TypeVar("Result")

# The reason of Unavailable when a lock was not released in time.
LOCK_TIMEOUT = "LOCK_TIMEOUT"

# The SQLSTATE that `refuse_from` raises.
_AUTHORITY_OVER = "AS001"

# A connection that was lost or refused; a server that starts, stops, is full, or has become a standby; and
# errors after which PostgreSQL recommends to try again.
RETRYABLE = (
    OSError,
    TimeoutError,
    pg.PostgresConnectionError,
    pg.OperatorInterventionError,
    pg.InsufficientResourcesError,
    pg.ReadOnlySQLTransactionError,
    pg.TransactionRollbackError,
    pg.IdleInTransactionSessionTimeoutError,
    pg.LockNotAvailableError,
    pg.ObjectNotInPrerequisiteStateError,  # a statement that only a primary can execute
    pg.TargetServerAttributeNotMatched,  # none of the hosts is a primary
    pg.InvalidAuthorizationSpecificationError,
    pg.InvalidCatalogNameError,
)
# What a node answers that has become a standby, or read-only.
_OF_A_STANDBY = (pg.ReadOnlySQLTransactionError, pg.ObjectNotInPrerequisiteStateError)


class AuthorityOver(Exception):
    """The authority of a caller ended while its transaction waited for its last lock. Nothing was done."""


@contextmanager
def translate_errors(connection: "AnyConnection | None" = None) -> Iterator[None]:
    """Raise temporary errors of the driver as Unavailable, and let others pass.

    A `connection` that the driver has left in an unknown state is closed, and so is one to a node that is not
    the primary any more: the next one is opened to the primary.
    """
    try:
        yield
    except RETRYABLE as error:
        if isinstance(error, _OF_A_STANDBY) and connection is not None and not is_closed(connection):
            connection.terminate()
        raise _retryable(error) from error
    except pg.InvalidCachedStatementError as error:
        # The driver has already dropped its prepared statements.
        raise Unavailable(
            "the schema of the database was changed meanwhile; nothing was done; retry",
            reason="SCHEMA_CHANGED",
            retry_after=0.1,
        ) from error
    except (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError) as error:
        raise Unavailable(
            "a pooler in front of the database uses transaction pooling: set AUTHSVC_FEED=poll",
            reason="DATABASE_POOLED",
            retry_after=1,
        ) from error
    except pg.InternalClientError as error:
        # The driver raises this when a connection is being lost. Close it, so that it is not used again.
        if connection is not None and not is_closed(connection):
            connection.terminate()
        _log.warning("a broken connection to the database was closed: %s", error)
        raise _out_of_reach() from error
    except pg.InterfaceError as error:
        # Raised for closed connections, but also for programming errors and invalid URLs, which pass.
        if isinstance(error, ValueError) or (connection is not None and not is_closed(connection)):
            raise
        raise _out_of_reach() from error
    except pg.PostgresError as error:
        if error.sqlstate == _AUTHORITY_OVER:
            raise AuthorityOver from error
        raise


@contextmanager
def raise_on_warning(connection: AnyConnection) -> Iterator[None]:
    """Raise Unavailable at the end if PostgreSQL sent a warning.

    It warns when a commit was not confirmed by the synchronous standby.
    """
    warnings = []

    def note(_: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity_en == "WARNING":
            warnings.append(message)

    connection.add_log_listener(note)
    try:
        yield
    finally:
        if not is_closed(connection):
            connection.remove_log_listener(note)
    if warnings:
        _log.error("PostgreSQL sent a warning for a commit, which counts as failed: %s", warnings[0])
        raise Unavailable(
            "the commit may be lost if the primary fails; repeat the call",
            reason="COMMIT_UNCERTAIN",
            retry_after=1,
        )


async def checked(connection: AnyConnection, commit: Callable[[], Awaitable[Result]]) -> Result:
    """Commit; raise errors and warnings as the two above do.

    This is for work that goes on when its caller is cancelled. The caller does not get an error then, but a
    warning is logged and a broken connection is closed all the same.
    """
    with translate_errors(connection), raise_on_warning(connection):
        return await commit()


async def roll_back(connection: AnyConnection) -> None:
    """Roll back; if that fails, close the connection, since PostgreSQL rolls back what has no client.

    Raises no error, which would replace the one that ended the transaction, or a cancellation.
    """
    if is_closed(connection):
        return
    try:
        await connection.execute("ROLLBACK")
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - see above
        # It is never the caller who is cancelled: see `uncancelled`.
        _log.debug("a connection is closed, because its transaction was not rolled back: %r", error)
        if not is_closed(connection):
            connection.terminate()


async def released(
    pool: "asyncpg.Pool[asyncpg.Record]", connection: "PoolConnectionProxy[asyncpg.Record]", seconds: float
) -> None:
    """Give a connection back to its pool; roll back what a caller that was cancelled has left open.

    The driver would do so, too, and log an error.
    """
    if not is_closed(connection) and connection.is_in_transaction():
        await roll_back(connection)
    await pool.release(connection, timeout=seconds)


def is_closed(connection: AnyConnection) -> bool:
    """Return whether a connection cannot be used any more."""
    try:
        return connection.is_closed()
    except pg.InterfaceError:
        # The pool has taken the connection back, as it does when the pool is closed.
        return True


def _retryable(error: BaseException) -> Unavailable:
    match error.main if isinstance(error, ConnectError) else error:
        case pg.LockNotAvailableError():
            return Unavailable(
                "another change held a lock for too long; nothing was done; retry",
                reason=LOCK_TIMEOUT,
                retry_after=0.5,
            )
        case pg.StatementCompletionUnknownError():
            return _out_of_reach()
        case pg.TransactionRollbackError():  # a deadlock, or a serialization failure
            return Unavailable(
                "the transaction conflicts with another one; nothing was done; retry",
                reason="TRANSACTION_CONFLICT",
                retry_after=0.1,
            )
        case pg.IdleInTransactionSessionTimeoutError():
            return _unavailable("the database ended a transaction in which this process paused for too long")
        case pg.QueryCanceledError():
            return _unavailable("the database canceled a statement, by statement_timeout or by an operator")
        case pg.InsufficientResourcesError():
            return _unavailable("the database is short of connections, memory or disk space")
        case TimeoutError():
            return _unavailable("the database did not answer in time")
        case _:
            return _out_of_reach()


def _out_of_reach() -> Unavailable:
    return _unavailable("the database is out of reach")


def _unavailable(what: str) -> Unavailable:
    return Unavailable(
        f"{what}; keys in memory are still verified; retry", reason="DATABASE_UNAVAILABLE", retry_after=1
    )
