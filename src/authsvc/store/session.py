"""The settings of our sessions, whatever the defaults of the role, the database and the server are.

Mechanism: they are made when the connection is open. A pooler refuses most settings in the message that opens
a connection, and one with transaction pooling cannot keep them. So behind such a pooler, transactions make
the settings that matter to them (`pool`), and `unsuitable` finds the defaults that would do harm elsewhere.
"""

from collections.abc import Callable, Mapping

import asyncpg

from authsvc.store.driver_errors import AnyConnection

# Poolers keep these, too.
SERVER_SETTINGS: Mapping[str, str] = {
    "application_name": "authsvc",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "standard_conforming_strings": "on",
}
_PINNED = {
    "statement_timeout": "0",  # The driver has its own. This one would cut off the wait of a commit.
    "lock_timeout": "0",  # Transactions set theirs.
    "idle_in_transaction_session_timeout": "0",  # The same.
    "idle_session_timeout": "0",  # Connections of the pool, and that of the feed, are idle for long.
    "default_transaction_isolation": "read committed",  # R9, and statements that wait for one another.
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",  # What was answered OK survives a crash and a failover.
    "client_min_messages": "notice",  # A warning says that a commit is not on the standby.
    "search_path": "public",  # No object of somebody else stands for one of ours or of PostgreSQL.
    "transform_null_equals": "off",
    # How values become text.
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
# By the first version that has them.
_PINNED_SINCE = {17: {"transaction_timeout": "0"}}
_TRIES = 5
_LONG_MS = 60_000
# What a session needs where nothing is pinned. A value of `pg_settings`, so times are in milliseconds.
_HARMLESS: Mapping[str, Callable[[str], bool]] = {
    "client_min_messages": lambda value: value != "error",
    "default_transaction_isolation": "read committed".__eq__,
    "lock_timeout": lambda value: _is_long(int(value)),
    "statement_timeout": lambda value: _is_long(int(value)),
    "transaction_timeout": lambda value: _is_long(int(value)),
    "transform_null_equals": "off".__eq__,
}
_SHOW = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY($1) ORDER BY name"


async def pin(connection: AnyConnection) -> None:
    """Make the settings of the session."""
    settings = dict(_PINNED)
    for version, later in _PINNED_SINCE.items():
        if connection.get_server_version().major >= version:
            settings |= later
    statement = "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())
    for _ in range(_TRIES - 1):
        try:
            await connection.execute(statement)
        except asyncpg.QueryCanceledError:
            # A `statement_timeout` of a millisecond may cancel the statement that lifts it.
            continue
        return
    await connection.execute(statement)


async def unsuitable(connection: AnyConnection) -> list[tuple[str, str, str]]:
    """Return the settings that would do harm to a session in which nothing is pinned.

    Each with its value, in milliseconds if it is a time, and with one that does no harm.
    """
    return [
        (row["name"], row["setting"], "0" if row["name"].endswith("timeout") else _PINNED[row["name"]])
        for row in await connection.fetch(_SHOW, list(_HARMLESS))
        if not _HARMLESS[row["name"]](row["setting"])
    ]


def _is_long(milliseconds: int) -> bool:
    return milliseconds == 0 or milliseconds >= _LONG_MS
