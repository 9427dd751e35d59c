"""Schema migrations.

Mechanism: numbered SQL files, each applied once, in order, in a transaction of its own, which waits for locks
and holds them only for a short time (`short_transaction`). An advisory lock keeps replicas that start at the
same time apart. The checksum of each file is stored: a file that was changed after it was applied is refused.

With two roles, the serving role gets privileges on the tables, but not their ownership.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from authsvc.model.errors import OperatorError
from authsvc.store import retention as stored_retention
from authsvc.store.connect import connect
from authsvc.store.connect_error import ConnectError
from authsvc.store.hosts import InvalidUrlError
from authsvc.store.pool import Connection, Database
from authsvc.store.privileges import grants
from authsvc.store.requirements import check_database
from authsvc.store.retention import Retention
from authsvc.store.short_transaction import ShortTransactions

if TYPE_CHECKING:
    # The classes of asyncpg are generic for type checkers only.
    DirectConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]

#: How long `migrate` waits for locks that others hold.
LOCK_WAIT = timedelta(minutes=5)
_MAX_CONNECT_SECONDS = 10.0
_MAX_READ_SECONDS = 10.0
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")

_CREATE_MIGRATIONS = """
    CREATE SCHEMA IF NOT EXISTS authsvc;
    CREATE TABLE IF NOT EXISTS authsvc.migrations (
        number     integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        apply_time timestamptz NOT NULL DEFAULT now()
    );
"""
_APPLIED = "SELECT number, checksum FROM authsvc.migrations"


class MigrationError(OperatorError):
    """The database and the migrations do not fit together; the message says how to mend it."""


class NotGrantedError(MigrationError):
    """The serving role has no privileges on the schema, or not yet."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered SQL file."""

    number: int
    name: str
    sql: str

    def __str__(self) -> str:
        return f"{self.number:04} {self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text."""
        return sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Plan:
    """What `migrate` finds: the missing migrations, the stored retention, and the role that migrates."""

    missing: list[Migration]
    kept: timedelta | None
    role: str


def known_migrations() -> list[Migration]:
    """Return the migrations of this version, in order."""
    migrations = [
        Migration(int(match[1]), match[2], file.read_text("utf-8"))
        for file in files("authsvc.store").joinpath("migrations").iterdir()
        if (match := _FILE.fullmatch(file.name))
    ]
    return sorted(migrations, key=lambda migration: migration.number)


async def migrate(
    url: str,
    *,
    pooler: bool = False,
    migrations: list[Migration] | None = None,
    serving_role: str = "",
    retention: Retention | None = None,
    lock_wait: timedelta = LOCK_WAIT,
    tell: Callable[[str], object] = lambda line: None,
) -> int:
    """Apply the migrations that were not applied yet; return how many.

    `pooler` means that a pooler with transaction pooling is in front of the database. `serving_role` gets
    privileges on the tables, unless it is the role that migrates. `retention` is how long the schema keeps
    audit events from now on. Each transaction waits at most `lock_wait` for locks of others. `tell` receives
    a line for each thing that was done, and for each that is waited for.

    Raises MigrationError when the database is out of reach, when a migration fails (it is rolled back) or was
    changed after it was applied, and when privileges or the retention cannot be set; UnfitDatabaseError when
    the database is not one that authsvc can use; LockWaitOver and OverlongError, which name the transaction
    that was not done; UnknownOutcomeError, which names the one that may have been done.
    """
    connection = await _connected(url, pooler)
    transactions = ShortTransactions(
        connection, partial(_connected, url, pooler), lock_wait=lock_wait.total_seconds(), tell=tell
    )
    try:
        async with asyncio.timeout(_MAX_READ_SECONDS):
            await check_database(connection, pooler=pooler)
        todo = await _created(
            connection, transactions, known_migrations() if migrations is None else migrations
        )
        done = 0
        for migration in todo:
            if await _apply(connection, transactions, migration):
                tell(f"applied {migration}")
                done += 1
        if retention is not None:
            with _refused("cannot set the retention of audit events: {}"):
                stores = partial(stored_retention.store, connection, retention)
                if await transactions.run("the retention of audit events", stores):
                    tell(f"audit events are kept {retention}")
        if serving_role and serving_role != await _current_role(connection):
            what = f"{serving_role} the use of the tables"
            with _refused(f"cannot grant {what}: {{}}"):
                await transactions.run(f"granting {what}", partial(connection.execute, grants(serving_role)))
            tell(f"granted the use of the tables to {serving_role}")
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        # The driver ends the transaction of a lost connection with an error of its own.
        cause = error.__context__ if isinstance(error, asyncpg.InterfaceError) else error
        raise MigrationError(
            f"the connection to the database was lost: {str(cause or error) or 'no answer in time'}. "
            "Run `authsvc migrate` again: it continues with what was not applied"
        ) from error
    else:
        return done
    finally:
        await transactions.close()
        await connection.close()


async def plan(url: str, *, pooler: bool = False) -> Plan:
    """Return what `migrate` of this version finds, and change nothing.

    Raises MigrationError when that cannot be told.
    """
    connection = await _connected(url, pooler)
    try:
        async with asyncio.timeout(_MAX_READ_SECONDS):
            await check_database(connection, pooler=pooler)
            missing = _missing(known_migrations(), await _checksums(connection))
            kept = await stored_retention.stored(connection)
            return Plan(missing, kept, await _current_role(connection))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise MigrationError(
            "cannot tell which migrations the database has: "
            + (str(error) or f"it did not answer within {_MAX_READ_SECONDS:g} s")
        ) from error
    finally:
        await connection.close()


async def _current_role(connection: "DirectConnection") -> str:
    role: str = await connection.fetchval("SELECT current_user", timeout=_MAX_READ_SECONDS)
    return role


async def pending(database: Database) -> list[str]:
    """Return the names of the migrations of this version that the database does not have.

    Raises MigrationError when the serving role has no privileges on the schema, or when a migration was
    changed after it was applied.
    """
    async with database.connection() as connection:
        checksums = await _checksums(connection)
    return list(map(str, _missing(known_migrations(), checksums)))


async def _checksums(connection: "DirectConnection | Connection") -> dict[int, str]:
    """Return the checksums of the applied migrations by number."""
    try:
        rows = await connection.fetch(_APPLIED, timeout=_MAX_READ_SECONDS)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return {}
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotGrantedError(
            f"the serving role has no privileges on the schema ({error}): run `authsvc migrate` with "
            "AUTHSVC_DATABASE_URL set to that role and AUTHSVC_MIGRATION_DATABASE_URL to the owner's"
        ) from error
    return {row["number"]: row["checksum"] for row in rows}


def _missing(migrations: Iterable[Migration], checksums: dict[int, str]) -> list[Migration]:
    missing = []
    for migration in migrations:
        if migration.number in checksums:
            _compare(migration, checksums[migration.number])
        else:
            missing.append(migration)
    return missing


async def _connected(url: str, pooler: bool) -> "DirectConnection":
    try:
        # Migrations take as long as they take.
        return await connect(
            url, timeout=_MAX_CONNECT_SECONDS, pooler=pooler, command_timeout=None, statement_cache_size=0
        )
    except (ConnectError, InvalidUrlError) as error:
        raise MigrationError(f"cannot use the database: {error}") from error


def _compare(migration: Migration, checksum: str) -> None:
    if checksum != migration.checksum:
        raise MigrationError(
            f"migration {migration} was changed after it had been applied: "
            "restore the file, and put the change into a new migration"
        )


async def _created(
    connection: "DirectConnection", transactions: ShortTransactions, migrations: list[Migration]
) -> list[Migration]:
    """Create the table of migrations if it is missing, and return the migrations that are not in it."""

    async def create() -> list[Migration]:
        await connection.execute(_CREATE_MIGRATIONS)
        return _missing(migrations, await _checksums(connection))

    with _refused("cannot create the schema: {}; migrate as its owner"):
        return await transactions.run("creating the schema", create)


async def _apply(
    connection: "DirectConnection", transactions: ShortTransactions, migration: Migration
) -> bool:
    """Apply a migration; return False when another process has done so meanwhile."""

    async def apply() -> bool:
        # Again, under the lock.
        if not _missing([migration], await _checksums(connection)):
            return False
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO authsvc.migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
        return True

    with _refused(f"migration {migration} failed and was rolled back: {{}}"):
        return await transactions.run(f"migration {migration}", apply)


@contextmanager
def _refused(told: str) -> Iterator[None]:
    """Raise what PostgreSQL refuses as MigrationError. `told` has {} where its words go."""
    try:
        yield
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.PostgresError as error:
        raise MigrationError(told.replace("{}", str(error))) from error
