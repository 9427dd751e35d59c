"""The deletion of sessions and request ids that ended long ago, and the rows of background jobs."""

from datetime import datetime

from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("purge.sql")


async def take(connection: Connection, job: str, now: datetime) -> str | None:
    """Lock a job that is due until this transaction ends; return its position.

    None if it is not due, or another worker runs it.
    """
    position: str | None = await connection.fetchval(_SQL["take_job"], job, now)
    return position


async def put_back(connection: Connection, job: str, position: str, next_time: datetime) -> None:
    """Store the position that a job has reached, and when it is due next."""
    await connection.execute(_SQL["put_back_job"], job, position, next_time)


async def delete_ended(
    connection: Connection, *, after: str, ended_before: datetime, size: int
) -> tuple[str, int]:
    """Delete those of the next `size` sessions that ended before a time.

    Returns the id of the last session that was examined ("" at the end of the table), and the number of
    deleted sessions. The row by which all sessions of an owner were ended is deleted when none of those is
    left.
    """
    [row] = await connection.fetch(_SQL["delete_ended_sessions"], after, ended_before, size)
    if row["deleted"]:
        await connection.execute(_SQL["delete_session_ends"], row["owners"], ended_before)
    return (row["position"] if row["looked_at"] == size else ""), row["deleted"]


async def delete_key_requests(connection: Connection, *, deleted_before: datetime, size: int) -> int:
    """Release up to `size` request ids whose keys were deleted before a time; return how many."""
    freed: int = await connection.fetchval(_SQL["delete_key_requests"], deleted_before, size)
    return freed
