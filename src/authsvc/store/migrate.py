"""Brings the schema up to date.

Mechanism: numbered SQL files, each run once, in order, in a transaction of its
own, under an advisory lock, so that replicas that start together do not collide.
The checksum of each is kept: a file that changed after it was run is refused.

The role that serves gets the use of what is there, not its ownership, when the
operator gives two roles.
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
from authsvc.store.pool import Database

# Any constant will do, as long as it stays.
_LOCK = 0x617574687376
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")

_BOOKS = """
    CREATE SCHEMA IF NOT EXISTS authsvc;
    CREATE TABLE IF NOT EXISTS authsvc.migrations (
        number     integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        apply_time timestamptz NOT NULL DEFAULT now()
    );
"""
# Workers of the release before 0007 insert tag key 1 when they start; a trigger has that do nothing. The
# grant and the trigger go with the first release that need not run beside such workers.
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
# In the same transaction, so that nobody may change the audit log for a moment.
_AUDIT_GRANTS = "SELECT authsvc.grant_audit($1)"


class MigrationError(OperatorError):
    """The database and the migrations do not fit together; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long audit events are kept, zero: for good.

    The schema holds to it, whatever the role that serves asks for. A shorter one than before takes
    effect only if it `was_asked_for`: a default must not shorten what somebody has set.
    """

    length: timedelta
    was_asked_for: bool

    def replaces(self, kept: timedelta | None) -> bool:
        """Say whether this is to be kept instead of what is there; None: nothing was set yet."""
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
    migrations: list[Migration] | None = None,
    serving_role: str = "",
    retention: Retention | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> int:
    """Run what has not been run; return how many that were.

    `serving_role`, when it is not the one that migrates, is granted the use of the
    tables. `retention` is how long the schema keeps audit events from now on.
    Raises MigrationError; the migration that failed has left no trace.
    """
    todo = known_migrations() if migrations is None else migrations
    try:
        connection = await asyncpg.connect(url, timeout=10, statement_cache_size=0)  # Poolers, too
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise MigrationError(f"cannot use the database: {error or 'no answer within 10 s'}") from error
    except ValueError:
        # The driver's own words may hold a part of the password.
        raise MigrationError("the driver cannot read the URL of the database; check its options") from None
    try:
        try:
            async with _alone(connection):
                await connection.execute(_BOOKS)
        except asyncpg.PostgresError as error:
            raise MigrationError(f"cannot make the schema: {error}; migrate as the owner") from error
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
            await _keep(connection, retention, tell)
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
    """Return the names of this version's migrations that the database does not have."""
    async with database.connection() as connection:
        try:
            rows = await connection.fetch("SELECT number, checksum FROM authsvc.migrations")
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            rows = []
        except asyncpg.InsufficientPrivilegeError as error:
            raise MigrationError(
                f"the role that serves may not use the schema ({error}): run `authsvc migrate` with "
                "AUTHSVC_DATABASE_URL set to that role and AUTHSVC_MIGRATION_DATABASE_URL to the owner's"
            ) from error
        applied = {row["number"]: row["checksum"] for row in rows}
    for migration in known_migrations():
        if migration.number in applied:
            _compare(migration, applied[migration.number])
    return [f"{m.number:04} {m.name}" for m in known_migrations() if m.number not in applied]


def _compare(migration: Migration, checksum: str) -> None:
    if checksum != migration.checksum:
        raise MigrationError(
            f"migration {migration.number:04} {migration.name} was changed after it had been applied: "
            "restore the file, and put the change into a migration of its own"
        )


async def _keep(
    connection: "asyncpg.Connection[asyncpg.Record]", retention: Retention, tell: Callable[[str], object]
) -> None:
    try:
        async with _alone(connection):
            kept = await connection.fetchval(_RETENTION)
            if not retention.replaces(kept):
                return
            await connection.execute(_SET_RETENTION, retention.length)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"cannot set the retention of audit events: {error}") from error
    tell(f"audit events are kept {f'for {retention.length.days} days' if retention.length else 'for good'}")


@asynccontextmanager
async def _alone(connection: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[None]:
    """Run a transaction of migrations while no other runs. Poolers share sessions, so the lock is its own."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        yield


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", migration: Migration) -> bool:
    """Run a migration; return False when somebody else has done so meanwhile."""
    try:
        async with _alone(connection):
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
