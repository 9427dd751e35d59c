"""What the database has to be: a PostgreSQL of version 14 or later, in UTF-8, whose locks hold.

`migrate` and `serve` check it before they do anything else, and refuse with the reason and the remedy. That
the server is a primary is checked for each connection (`connect`). The collation of the database does not
matter: texts that are ordered are COLLATE "C", and others are compared for equality only.
"""

import re
from uuid import uuid4

import asyncpg

from authsvc.model.errors import OperatorError
from authsvc.store.driver_errors import AnyConnection
from authsvc.store.session import unsuitable

_MIN_VERSION = 14
# What a server answers to a question that only PostgreSQL understands.
_UNKNOWN = (
    asyncpg.FeatureNotSupportedError,
    asyncpg.PostgresSyntaxError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedTableError,
)
_NO_LOCKS = "its advisory locks do nothing, so a caller that was revoked could still make changes"
_OTHER_LOCKS = "its locks are not those of PostgreSQL, on which revocation rests"
# What appears in the answer to `SELECT version()` of databases that only speak PostgreSQL's protocol.
_IMPOSTORS = {
    "CockroachDB": ("cockroachdb", _NO_LOCKS),
    "YugabyteDB": ("-yb-|yugabyte", _OTHER_LOCKS),
    "Amazon Redshift": ("redshift", "it has no advisory locks, and does not enforce unique keys"),
    "Materialize": ("materialize", "it has no row locks and no advisory locks"),
    "RisingWave": ("risingwave", "it has no row locks and no advisory locks"),
    "QuestDB": ("questdb", "it has no row locks and no advisory locks"),
    "CrateDB": ("cratedb", "it has no transactions"),
    "Greenplum": ("greenplum|greengage|cloudberry", _OTHER_LOCKS),
    "openGauss": ("opengauss|gaussdb", _OTHER_LOCKS),
    "CedarDB": ("cedardb", _OTHER_LOCKS),
    "Spanner": ("spanner", _OTHER_LOCKS),
}
_USE = f"use PostgreSQL {_MIN_VERSION} or later"
_FACTS = """
    SELECT current_setting('server_encoding') AS encoding,
           quote_ident(current_database()) AS database, quote_ident(current_user) AS role,
           current_setting('crdb_version', true) AS crdb_version,
           current_setting('session_replication_role') AS replication_role
"""
_LOCK = "SELECT pg_advisory_xact_lock_shared($1)"
_HOLDS = """
    SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
                      AND (classid::bigint << 32 | objid::bigint) = $1)
"""


class UnfitDatabaseError(OperatorError):
    """The database cannot be used; the message says why, and what to do."""


def refuse_impostor(version: str) -> None:
    """Raise UnfitDatabaseError unless this answer to `SELECT version()` is that of a PostgreSQL for us."""
    for name, (mark, reason) in _IMPOSTORS.items():
        if re.search(mark, version, re.IGNORECASE):
            raise UnfitDatabaseError(f"the database is {name}, not PostgreSQL: {reason}; {_USE}")
    number = re.match(r"PostgreSQL (\d+)", version)
    if number is None:
        raise UnfitDatabaseError(f"the database is not PostgreSQL, but {version[:100]!r}; {_USE}")
    if int(number[1]) < _MIN_VERSION:
        raise UnfitDatabaseError(f"the database is PostgreSQL {number[1]}, which is too old; {_USE}")


async def check_database(connection: AnyConnection, *, pooler: bool = False) -> None:
    """Raise UnfitDatabaseError unless the database can be used.

    Behind a `pooler` with transaction pooling, the defaults of the role and the database are checked as well.
    """
    refuse_impostor(await connection.fetchval("SELECT version()"))
    try:
        facts = await connection.fetchrow(_FACTS)
        key = uuid4().int >> 65
        async with connection.transaction():
            await connection.fetchval(_LOCK, key)
            holds_locks = await connection.fetchval(_HOLDS, key)
    except _UNKNOWN as error:
        raise UnfitDatabaseError(f"the database is not PostgreSQL: {error}; {_USE}") from error
    assert facts is not None  # noqa: S101 - a SELECT without FROM returns a row
    if facts["crdb_version"] is not None:
        refuse_impostor("CockroachDB")
    if not holds_locks:
        raise UnfitDatabaseError(f"the database is not PostgreSQL: {_NO_LOCKS}; {_USE}")
    database = facts["database"]
    if facts["encoding"] != "UTF8":
        raise UnfitDatabaseError(
            f"the encoding of database {database} is {facts['encoding']}, and has to be UTF8: create another "
            "one by CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and move the data by pg_dump"
        )
    if facts["replication_role"] != "origin":
        raise UnfitDatabaseError(
            f"session_replication_role is {facts['replication_role']}, so triggers do not run: "
            f"ALTER ROLE {facts['role']} RESET session_replication_role, or, if that is where it is set, "
            f"ALTER DATABASE {database} RESET session_replication_role"
        )
    if pooler and (found := await unsuitable(connection)):
        role = facts["role"]
        raise UnfitDatabaseError(
            f"behind a pooler in transaction mode, these settings of role {role} in database {database} "
            f"apply: {', '.join(f'{name} = {value}' for name, value, _ in found)}. Change them: "
            + "; ".join(f"ALTER ROLE {role} SET {name} = '{remedy}'" for name, _, remedy in found)
        )
