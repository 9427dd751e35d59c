"""What has ended long ago, as rows to delete, and the row of the job that does so."""

from datetime import datetime

from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("purge.sql")


async def take(connection: Connection, job: str, now: datetime) -> str | None:
    """Return the position of a job that is due, which is ours until this transaction ends; None: not now."""
    position: str | None = await connection.fetchval(_SQL["take_job"], job, now)
    return position


async def put_back(connection: Connection, job: str, position: str, next_time: datetime) -> None:
    """Say up to where a job has come, and when it goes on."""
    await connection.execute(_SQL["put_back_job"], job, position, next_time)


async def delete_ended(
    connection: Connection, *, after: str, ended_before: datetime, size: int
) -> tuple[str, int]:
    """Look at `size` sessions after an id; return the last one's ("": no more), and how many went.

    What ended all sessions of an owner goes when none of those is left.
    """
    [row] = await connection.fetch(_SQL["delete_ended_sessions"], after, ended_before, size)
    if row["deleted"]:
        await connection.execute(_SQL["delete_session_ends"], row["owners"], ended_before)
    return (row["position"] if row["looked_at"] == size else ""), row["deleted"]


async def delete_key_requests(connection: Connection, *, deleted_before: datetime, size: int) -> int:
    """Have up to `size` request ids be free again whose keys were deleted before; return how many."""
    freed: int = await connection.fetchval(_SQL["delete_key_requests"], deleted_before, size)
    return freed
