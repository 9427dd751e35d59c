"""Schema migrations.

Mechanism: numbered SQL files, each applied once, in order, in a transaction of its own. An advisory lock
keeps replicas that start at the same time apart. The checksum of each file is stored: a file that was changed
after it was applied is refused.

With two roles, the serving role gets privileges on the tables, but not their ownership.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from importlib.resources import files

import asyncpg

from authsvc.model.errors import OperatorError
from authsvc.store.connect import connect
from authsvc.store.connect_error import ConnectError
from authsvc.store.hosts import InvalidUrlError
from authsvc.store.pool import Database
from authsvc.store.requirements import check_database

# The key of the advisory lock. It must never change.
_LOCK = 0x617574687376
_MAX_CONNECT_SECONDS = 10.0
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
# Workers of the release before 0007 insert tag key 1 when they start; a trigger ignores that. Remove the
# grant and the trigger with the first release that does not have to run beside such workers.
_GRANTS = """
    GRANT USAGE ON SCHEMA authsvc TO {role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA authsvc TO {role};
    REVOKE INSERT, UPDATE, DELETE ON authsvc.migrations FROM {role};
    REVOKE INSERT, UPDATE, DELETE ON authsvc.tag_keys FROM {role};
    GRANT INSERT (tag_key_id, tag_key) ON authsvc.tag_keys TO {role};
    REVOKE INSERT, DELETE ON authsvc.feed_head FROM {role};
    REVOKE UPDATE ON authsvc.feed FROM {role};
"""
_RETENTION = "SELECT retention FROM authsvc.audit_retention"
_SET_RETENTION = """
    INSERT INTO authsvc.audit_retention (retention) VALUES ($1)
    ON CONFLICT (is_set) DO UPDATE SET retention = excluded.retention
"""
# In the same transaction, so that the serving role can never change the audit log, not even for a moment.
_AUDIT_GRANTS = "SELECT authsvc.grant_audit($1)"


class MigrationError(OperatorError):
    """The database and the migrations do not fit together; the message says how to mend it."""


class NotGrantedError(MigrationError):
    """The serving role has no privileges on the schema, or not yet."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long audit events are kept; zero means for ever.

    The schema enforces it against the serving role. A retention that is shorter than the stored one takes
    effect only if it `was_asked_for`, because a default must not shorten what an operator has set.
    """

    length: timedelta
    was_asked_for: bool

    def replaces(self, kept: timedelta | None) -> bool:
        """Return whether this replaces the stored retention; None if none was stored yet."""
        if kept is None or self.was_asked_for:
            return self.length != kept
        return bool(kept) and (not self.length or self.length > kept)


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered SQL file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text."""
        return sha256(self.sql.encode()).hexdigest()


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
    tell: Callable[[str], object] = lambda line: None,
) -> int:
    """Apply the migrations that were not applied yet; return how many.

    `pooler` means that a pooler with transaction pooling is in front of the database. `serving_role` gets
    privileges on the tables, unless it is the role that migrates. `retention` is how long the schema keeps
    audit events from now on. `tell` receives a line for each thing that was done.

    Raises MigrationError when the database is out of reach, when a migration fails (it is rolled back) or was
    changed after it was applied, and when privileges or the retention cannot be set; UnfitDatabaseError when
    the database is not one that authsvc can use.
    """
    todo = known_migrations() if migrations is None else migrations
    connection = await _connected(url, pooler)
    try:
        await check_database(connection, pooler=pooler)
        try:
            async with _exclusive(connection):
                await connection.execute(_CREATE_MIGRATIONS)
        except asyncpg.PostgresError as error:
            raise MigrationError(f"cannot create the schema: {error}; migrate as its owner") from error
        applied = {r["number"]: r for r in await connection.fetch("SELECT * FROM authsvc.migrations")}
        done = 0
        for migration in todo:
            if migration.number in applied:
                _compare(migration, applied[migration.number]["checksum"])
                continue
            if await _apply(connection, migration):
                tell(f"applied {migration.number:04} {migration.name}")
                done += 1
        if retention is not None:
            await _set_retention(connection, retention, tell)
        if serving_role and serving_role != await connection.fetchval("SELECT current_user"):
            quoted = '"' + serving_role.replace('"', '""') + '"'
            try:
                async with connection.transaction():
                    await connection.execute(_GRANTS.format(role=quoted))
                    await connection.execute(_AUDIT_GRANTS, serving_role)
            except asyncpg.PostgresError as error:
                raise MigrationError(f"cannot grant {serving_role} the use of the tables: {error}") from error
            tell(f"granted the use of the tables to {serving_role}")
        return done
    finally:
        await connection.close()


async def pending(database: Database) -> list[str]:
    """Return the names of the migrations of this version that the database does not have.

    Raises MigrationError when the serving role has no privileges on the schema, or when a migration was
    changed after it was applied.
    """
    async with database.connection() as connection:
        try:
            rows = await connection.fetch("SELECT number, checksum FROM authsvc.migrations")
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            rows = []
        except asyncpg.InsufficientPrivilegeError as error:
            raise NotGrantedError(
                f"the serving role has no privileges on the schema ({error}): run `authsvc migrate` with "
                "AUTHSVC_DATABASE_URL set to that role and AUTHSVC_MIGRATION_DATABASE_URL to the owner's"
            ) from error
        applied = {row["number"]: row["checksum"] for row in rows}
    for migration in known_migrations():
        if migration.number in applied:
            _compare(migration, applied[migration.number])
    return [f"{m.number:04} {m.name}" for m in known_migrations() if m.number not in applied]


async def _connected(url: str, pooler: bool) -> "asyncpg.Connection[asyncpg.Record]":
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
            f"migration {migration.number:04} {migration.name} was changed after it had been applied: "
            "restore the file, and put the change into a new migration"
        )


async def _set_retention(
    connection: "asyncpg.Connection[asyncpg.Record]", retention: Retention, tell: Callable[[str], object]
) -> None:
    try:
        async with _exclusive(connection):
            kept = await connection.fetchval(_RETENTION)
            if not retention.replaces(kept):
                return
            await connection.execute(_SET_RETENTION, retention.length)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"cannot set the retention of audit events: {error}") from error
    tell(f"audit events are kept {f'for {retention.length.days} days' if retention.length else 'forever'}")


@asynccontextmanager
async def _exclusive(connection: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[None]:
    """Run a transaction while no other migration runs. The lock is not of the session, for poolers' sake."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        yield


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", migration: Migration) -> bool:
    """Apply a migration; return False when another process has done so meanwhile."""
    try:
        async with _exclusive(connection):
            applied = "SELECT checksum FROM authsvc.migrations WHERE number = $1"
            if checksum := await connection.fetchval(applied, migration.number):
                _compare(migration, checksum)
                return False
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO authsvc.migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"migration {migration.number:04} {migration.name} failed and was rolled back: {error}"
        ) from error
    return True
