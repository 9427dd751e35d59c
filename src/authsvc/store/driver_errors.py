"""What the driver raises, in our own words.

Only what was lost or refused on the way to PostgreSQL is "out of reach". What PostgreSQL itself declines is
told as what it is, so that nobody looks for a fault of the network that is not there.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from asyncpg import exceptions as pg

from authsvc.model.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

_log = logging.getLogger(__name__)

# asyncpg is generic to the type checker only.
AnyConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"

# The reason of Unavailable when a lock was waited for in vain.
LOCK_TIMEOUT = "LOCK_TIMEOUT"

# A connection that is lost or refused, a server that starts, stops, is full, or has become a standby, and
# what PostgreSQL asks to be tried again.
RETRYABLE = (
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


@contextmanager
def translate_errors(connection: "AnyConnection | None" = None) -> Iterator[None]:
    """Raise the driver's passing errors as Unavailable."""
    try:
        yield
    except RETRYABLE as error:
        raise _passing(error) from error
    except pg.InvalidCachedStatementError as error:
        # The driver has forgotten its statements by now.
        raise Unavailable(
            "the schema of the database was changed in the middle of this; nothing was done; retry",
            reason="SCHEMA_CHANGED",
            retry_after=0.1,
        ) from error
    except (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError) as error:
        raise Unavailable(
            "a pooler before the database lends connections for one transaction: set AUTHSVC_FEED=poll",
            reason="DATABASE_POOLED",
            retry_after=1,
        ) from error
    except pg.InternalClientError as error:
        # The driver is confused by a connection that is just being lost; nobody is to use it again.
        if connection is not None and not is_closed(connection):
            connection.terminate()
        _log.warning("a connection was given up: %s", error)
        raise _out_of_reach() from error
    except pg.InterfaceError as error:
        # asyncpg says so of connections that were closed, of faults of ours, and of URLs that are no good.
        if isinstance(error, ValueError) or (connection is not None and not is_closed(connection)):
            raise
        raise _out_of_reach() from error


@contextmanager
def raise_on_warning(connection: AnyConnection) -> Iterator[None]:
    """Raise Unavailable when PostgreSQL warns meanwhile: so it says that a commit is on no standby."""
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
        _log.error("PostgreSQL warned of a commit, so it counts as failed: %s", warnings[0])
        raise Unavailable(
            "the commit may not outlive the loss of the primary; repeat the call",
            reason="COMMIT_UNCERTAIN",
            retry_after=1,
        )


def is_closed(connection: AnyConnection) -> bool:
    """Say whether nothing can be sent over a connection any more."""
    try:
        return connection.is_closed()
    except pg.InterfaceError:
        # The pool has taken it back: so it does when it is closed while it is lent.
        return True


def _passing(error: BaseException) -> Unavailable:
    match error:
        case pg.LockNotAvailableError():
            return Unavailable(
                "another change held a lock that this one needs for too long; nothing was done; retry",
                reason=LOCK_TIMEOUT,
                retry_after=0.5,
            )
        case pg.SerializationError() | pg.DeadlockDetectedError():
            return Unavailable(
                "another change of the same things came first; nothing was done; retry",
                reason="TRANSACTION_CONFLICT",
                retry_after=0.1,
            )
        case pg.QueryCanceledError():
            return _unavailable("the database canceled a statement: by statement_timeout, or an operator did")
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
        f"{what}; keys in memory go on being verified; retry", reason="DATABASE_UNAVAILABLE", retry_after=1
    )
