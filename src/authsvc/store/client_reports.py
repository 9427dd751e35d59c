"""What workers report of the clients that follow them, for the workers of all replicas to read."""

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from authsvc.model.following_client import FollowingClient, ReportedClient
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries

_SQL = load_queries("client_reports.sql")
#: For how long a report is believed. `announce` in feed.sql has the same.
BELIEVED = timedelta(seconds=10)


async def report(
    database: Database, process_id: UUID, host: str, pid: int, clients: Sequence[FollowingClient]
) -> None:
    """Write the clients of a worker, in place of those that it has reported before."""
    # PostgreSQL stores no NUL, and the instance is any text of the client.
    rows = [{**each._asdict(), "instance": each.instance.replace("\0", "\ufffd")} for each in clients]
    async with database.connection() as connection:
        await connection.execute(_SQL["report"], process_id, host, pid, json.dumps(rows))


async def withdraw(database: Database, process_id: UUID) -> None:
    """Delete what a worker has reported, because nobody follows it any more."""
    async with database.connection() as connection:
        await connection.execute(_SQL["withdraw"], process_id)


async def find(database: Database, *, limit: int) -> tuple[list[ReportedClient], int]:
    """Return at most `limit` clients, first those that changes wait for, and how many there are in all."""
    async with database.connection() as connection:
        rows = await connection.fetch(_SQL["find"], limit, BELIEVED)
    clients = [
        ReportedClient(
            row["host"],
            row["pid"],
            FollowingClient(
                row["credential_id"],
                row["address"],
                row["instance"],
                row["held"],
                row["waited_seconds"],
                row["late"],
            ),
            row["waited_since"] if row["waited_seconds"] else None,
        )
        for row in rows
    ]
    return clients, rows[0]["total"] if rows else 0
